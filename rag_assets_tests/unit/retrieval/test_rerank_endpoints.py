"""LiteLLM's rerank call over real sockets, to a small server that speaks the services' protocols."""

import subprocess
import sys
import time
from typing import Any

import pytest

from rag_assets.errors import RagAssetsError
from rag_assets.retrieval.rerank import Reranked, build_reranker, rerank
from rag_assets_tests.fakes import FakeEmbedder
from rag_assets_tests.unit.retrieval import rerank_server
from rag_assets_tests.unit.retrieval.rerank_server import Reply, Server, serving

QUESTION = "red fish swims"
PASSAGES = ("blue bird", "red fish", "red bird", "the red fish swims")
SCORES = pytest.approx((0, 2 / 3, 1 / 3, 1))
ADDRESSES = {
    "cohere": "COHERE_API_BASE",
    "jina_ai": "JINA_AI_API_BASE",
    "huggingface": "HF_API_BASE",
    "infinity": "INFINITY_API_BASE",
    "hosted_vllm": "HOSTED_VLLM_API_BASE",
}


def ask(
    monkeypatch: pytest.MonkeyPatch,
    server: Server,
    provider: str = "infinity",
    passages: Any = PASSAGES,
    seconds: float = 60,
) -> Reranked:
    for name in ("COHERE_API_KEY", "JINA_AI_API_KEY", "HUGGINGFACE_API_KEY", "INFINITY_API_KEY"):
        monkeypatch.setenv(name, "a-key")
    monkeypatch.setenv(ADDRESSES[provider], server.url)
    reranker = build_reranker(f"litellm:{provider}/some-model", FakeEmbedder())
    return rerank(reranker, QUESTION, passages, budget_seconds=seconds)


@pytest.mark.parametrize(
    ("provider", "reply", "path"),
    [
        ("cohere", rerank_server.cohere, "/v2/rerank"),
        ("jina_ai", rerank_server.jina, "/v1/rerank"),
        ("huggingface", rerank_server.tei, "/rerank"),
        ("infinity", rerank_server.cohere, "/rerank"),
        ("hosted_vllm", rerank_server.cohere, "/rerank"),
    ],
)
def test_every_protocol_gives_each_passage_its_score_whatever_the_order_of_the_reply(
    monkeypatch: pytest.MonkeyPatch, provider: str, reply: Reply, path: str
) -> None:
    with serving(reply) as server:
        assert ask(monkeypatch, server, provider).scores == SCORES
        (request,) = server.requests
        assert request["path"] == path
        assert request["query"] == QUESTION
        assert tuple(request["passages"]) == PASSAGES
        # The passages are not sent back.
        assert not request.get("return_documents")
        assert not request.get("return_text")


def test_more_passages_than_a_service_takes_at_once_are_sent_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    passages = PASSAGES * 20
    with serving(rerank_server.tei) as server:
        found = ask(monkeypatch, server, "huggingface", passages)
        assert found.scores == pytest.approx(tuple(SCORES.expected) * 20)
        assert [passage for request in server.requests for passage in request["passages"]] == list(passages)
        assert max(len(request["passages"]) for request in server.requests) <= 32


def test_a_reply_that_drips_is_given_up_when_the_budget_is_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(rerank_server.cohere) as server:
        assert ask(monkeypatch, server).scores == SCORES  # LiteLLM is loaded
    with serving(rerank_server.dripping) as server:
        found = ask(monkeypatch, server, passages=PASSAGES * 5, seconds=0.3)
        assert server.requests
    assert found.scores is None
    # The whole reply would take more than 40 s.
    assert found.seconds < 20


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (rerank_server.failing(500), "told to fail"),
        (rerank_server.failing(429), "told to fail"),
        (rerank_server.failing(401), "told to fail"),
        (rerank_server.garbled, "failed"),
        (rerank_server.saying(lambda rows: rows[:-1]), "scored 3 of 4 passages"),
        (rerank_server.saying(lambda rows: []), "scored 0 of 4 passages"),
        (rerank_server.saying(lambda rows: [*rows, {"index": 4, "relevance_score": 1}]), "scored 5 of 4 passages"),
        (rerank_server.saying(lambda rows: [*rows, rows[0]]), "scored 5 of 4 passages"),
        (rerank_server.saying(lambda rows: [{**row, "index": 0} for row in rows]), "passages"),
        (rerank_server.saying(lambda rows: [{**row, "relevance_score": None} for row in rows]), "failed"),
        (
            rerank_server.saying(lambda rows: [{**row, "relevance_score": float("nan")} for row in rows]),
            "no finite number",
        ),
        (rerank_server.saying(lambda rows: [{"score": 1} for row in rows]), "failed"),
        (rerank_server.saying(lambda rows: "none"), "failed"),
    ],
)
def test_an_endpoint_that_fails_or_answers_something_else_is_named_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], reply: Reply, words: str
) -> None:
    with serving(reply) as server, pytest.raises(RagAssetsError) as raised:
        ask(monkeypatch, server)
    assert "'infinity/some-model'" in str(raised.value)
    assert words in str(raised.value)
    assert "a-key" not in str(raised.value)
    # Standard output belongs to --json.
    assert capsys.readouterr().out == ""


def test_an_address_where_nobody_answers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(rerank_server.cohere) as server:
        pass
    with pytest.raises(RagAssetsError, match=r"'infinity/some-model' failed.*Check its address and key"):
        ask(monkeypatch, server)


SCRIPT = """
import sys, time
from rag_assets.retrieval.rerank import build_reranker, rerank
reranker = build_reranker("litellm:infinity/m", None)
print(rerank(reranker, "red fish", ["red", "fish"] * 20, budget_seconds=0.5).scores, time.perf_counter())
"""


def test_a_process_ends_though_a_reply_still_drips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also: loading LiteLLM, which takes seconds, is not part of the budget."""
    with serving(rerank_server.dripping) as server:
        monkeypatch.setenv("INFINITY_API_BASE", server.url)
        began = time.monotonic()
        done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=True)
        assert len(server.requests) == 1
    assert done.stdout.startswith("None ")
    # The reply of 40 passages would take more than 80 s.
    assert time.monotonic() - began < 70
