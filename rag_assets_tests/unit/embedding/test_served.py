"""Embedding by a real HTTP server: what is sent, what is repeated, and every way in which a server can lie."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from rag_assets.embedding import build_embedder
from rag_assets.embedding.canaries import Reference
from rag_assets.embedding.endpoint import Endpoint
from rag_assets.embedding.served import ServerEmbedder
from rag_assets.errors import ConfigurationError, RagAssetsError
from rag_assets.models import ServedEmbedder
from rag_assets.settings import EmbedderSettings
from rag_assets_tests import embedding_server as lies
from rag_assets_tests.embedding_server import EmbeddingServer, embedding_server
from rag_assets_tests.fakes import FakeEmbedder

MODEL = FakeEmbedder(version="served", dimension=48)
TEXTS = [f"Text number {number} tells of topic {number * 7}." for number in range(40)]
KEY = "sk-never-shown-0123456789"


class References:
    """Kept in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, Reference] = {}

    def find(self, fingerprint: str) -> Reference | None:
        return self.kept.get(fingerprint)

    def keep(self, fingerprint: str, reference: Reference) -> Reference:
        return self.kept.setdefault(fingerprint, reference)


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with embedding_server(lambda texts: 3 * MODEL.embed_queries(texts)) as found:
        yield found


@pytest.fixture
def waits() -> list[float]:
    """Every wait that was asked for; none is waited."""
    return []


@pytest.fixture
def connect(server: EmbeddingServer, waits: list[float]) -> Callable[..., ServerEmbedder]:
    def build(references: References | None = None, **values: Any) -> ServerEmbedder:
        given = {
            "model": "openai/served",
            "api_base": server.url,
            "tokenizer": "all-MiniLM-L6-v2",
            "backend": "litellm",
        }
        settings = EmbedderSettings.model_validate({**given, **values})
        return ServerEmbedder(settings, build_embedder, references, Endpoint(settings, sleep=waits.append))

    return build


Connect = Callable[..., ServerEmbedder]


def test_every_text_gets_its_own_vector_whatever_the_order_of_the_reply(
    server: EmbeddingServer, connect: Connect
) -> None:
    server.lie = lambda rows: rows[::-1]
    embedder = connect()
    assert isinstance(embedder, ServedEmbedder)
    assert np.abs(embedder.embed_documents(TEXTS) - MODEL.embed_queries(TEXTS)).max() < 1e-6
    assert np.abs(embedder.embed_queries(TEXTS[:1]) - MODEL.embed_queries(TEXTS[:1])).max() < 1e-6
    assert embedder.dimension == 48
    assert {request["model"] for request in server.requests} == {"served"}


def test_a_server_that_numbers_nothing_is_taken_at_its_order(server: EmbeddingServer, connect: Connect) -> None:
    server.lie = lambda rows: [{"object": "embedding", "embedding": row["embedding"]} for row in rows]
    assert np.abs(connect().embed_documents(TEXTS) - MODEL.embed_queries(TEXTS)).max() < 1e-6


LIES: dict[str, tuple[Any, str]] = {
    "reversed": (lies.reversed_, "mixed up a reply"),
    "reversed without numbers": (lies.unnumbered, "mixed up a reply"),
    "shifted": (lies.shifted, "mixed up a reply"),
    "one missing": (lambda rows: rows[:-1], "vectors for"),
    "one too many": (lambda rows: [*rows, rows[0]], "vectors for"),
    "one numbered twice": (lambda rows: [*rows[:-1], {**rows[-1], "index": 0}], "which is of which text"),
    "not a number": (lies.replacing(float("nan")), "no usable vector"),
    "infinite": (lies.replacing(1e39), "no usable vector"),
    "zero": (lies.replacing(0.0), "no usable vector"),
    "null": (lies.replacing(None), "no usable vector|something else than"),
    "text": (lies.replacing("x"), "something else than|did not embed"),
    "one shorter": (lambda rows: [{**rows[0], "embedding": [1.0]}, *rows[1:]], "equally long"),
    "another dimension": (lies.of_dimension(32), "dimension 32; the model 'openai/served' has 48"),
    "no rows": (lambda rows: [], "0 vectors for|did not embed"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_server_that_lies_is_found_out_and_nothing_of_the_reply_is_taken(
    server: EmbeddingServer, connect: Connect, lie: str
) -> None:
    embedder = connect(retries=0)
    embedder.prove()
    server.lie, words = LIES[lie]
    for count in (1, 2, 7, 31):
        with pytest.raises(RagAssetsError, match=words):
            embedder.embed_documents(TEXTS[:count])
    with pytest.raises(RagAssetsError, match=words):
        embedder.embed_queries(TEXTS[:1])


def test_a_model_that_changes_while_the_process_lives_is_found_out(server: EmbeddingServer, connect: Connect) -> None:
    embedder = connect()
    embedder.embed_documents(TEXTS[:2])
    server.embed = FakeEmbedder(version="other", dimension=48).embed_queries
    with pytest.raises(RagAssetsError, match=r"changed the model 'openai/served'.*0\.999 is needed"):
        embedder.embed_queries(["one question"])


class TestParity:
    def test_the_first_vectors_are_the_reference_of_every_later_process(
        self, server: EmbeddingServer, connect: Connect
    ) -> None:
        references = References()
        first = connect(references)
        first.prove()
        assert references.kept.keys() == {first.fingerprint}
        assert len(references.kept[first.fingerprint].texts) == 12
        connect(references).prove()
        server.embed = FakeEmbedder(version="other", dimension=48).embed_queries
        with pytest.raises(
            RagAssetsError, match=r"12 of 12 reference texts.*orders of neighbours differ.*Nothing was written"
        ):
            connect(references).embed_documents(TEXTS[:1])
        server.embed = FakeEmbedder(version="served", dimension=64).embed_queries
        with pytest.raises(RagAssetsError, match="their dimension is 64, not 48"):
            connect(references).embed_queries(TEXTS[:1])
        # Another revision is another model.
        assert connect(references, revision="2").embed_documents(TEXTS[:1]).shape == (1, 64)

    def test_rounding_is_no_drift_and_a_slightly_other_model_is(
        self, server: EmbeddingServer, connect: Connect
    ) -> None:
        references = References()
        connect(references).prove()
        server.embed = lambda texts: MODEL.embed_queries(texts).astype(np.float16).astype(np.float32)
        connect(references).prove()
        noise = np.random.default_rng(1).standard_normal((1, 48)).astype(np.float32)
        server.embed = lambda texts: MODEL.embed_queries(texts) + 0.012 * noise
        with pytest.raises(RagAssetsError, match=r"the lowest 0\.99"):
            connect(references).prove()

    def test_a_server_named_after_the_bundled_model_must_be_it(self, server: EmbeddingServer, connect: Connect) -> None:
        embedder = connect(model="openai/sentence-transformers/all-MiniLM-L6-v2")
        with pytest.raises(
            RagAssetsError, match="those of the local copy of 'all-MiniLM-L6-v2': their dimension is 48, not 384"
        ):
            embedder.prove()
        connect(model="openai/all-MiniLM-L6-v2", parity="none").prove()

    def test_a_server_that_truncates_is_found_out(self, server: EmbeddingServer, connect: Connect) -> None:
        server.embed = lambda texts: MODEL.embed_queries([" ".join(text.split()[:60]) for text in texts])
        with pytest.raises(ConfigurationError, match=r"truncates texts of 256 tokens.*embedder\.max_tokens"):
            connect().prove()
        connect(max_tokens=50).prove()

    def test_a_server_that_refuses_long_texts_is_told_from_one_that_fails(
        self, server: EmbeddingServer, connect: Connect
    ) -> None:
        refusal = {"error": "`inputs` must have less than 100 tokens", "error_type": "Validation"}
        server.fail = lambda texts: (413, refusal) if max(len(text.split()) for text in texts) > 180 else None
        with pytest.raises(ConfigurationError, match=r"less than 100 tokens.*256 tokens.*embedder\.max_tokens"):
            connect().prove()

    def test_the_parity_of_a_local_model_makes_its_vectors_the_servers(self, connect: Connect) -> None:
        local = build_embedder(EmbedderSettings(backend="openvino"))
        served = connect(parity="openvino:all-MiniLM-L6-v2", tokenizer=None)
        assert (served.fingerprint, served.tokenizer_fingerprint) == (local.fingerprint, local.tokenizer_fingerprint)
        again = connect(**served.resolved)
        assert again.fingerprint == local.fingerprint
        assert connect().fingerprint != local.fingerprint


class TestRequests:
    def test_they_hold_so_many_texts_and_tokens(self, server: EmbeddingServer, connect: Connect) -> None:
        connect().embed_documents(TEXTS)
        assert sorted(server.sizes[2:]) == [10, 32]  # after the reference texts and the two long ones
        server.requests.clear()
        connect(batch_tokens=64).embed_documents(TEXTS)
        assert max(server.sizes[12:]) < 8

    def test_a_text_is_read_to_the_limit_and_no_further(self, server: EmbeddingServer, connect: Connect) -> None:
        embedder = connect(max_tokens=20)
        long = "word " * 30
        embedder.embed_documents([long])
        assert [text for text in server.requests[-1]["input"] if text.startswith("word")] == [("word " * 18).strip()]
        assert embedder.count_tokens([long]) == [32]

    def test_what_is_asked_too_soon_is_asked_again_after_the_time_the_server_wants(
        self, server: EmbeddingServer, connect: Connect, waits: list[float]
    ) -> None:
        embedder = connect()
        embedder.prove()
        replies: list[Any] = [(429, {"error": {"message": "slow down"}}, {"Retry-After": "7"}), (500, {"error": "x"})]
        server.fail = lambda texts: replies.pop(0) if replies else None
        embedder.embed_documents(TEXTS[:3])
        assert round(waits[0]) == 7
        assert 2 in waits  # the second failure of the same request, which named no time

    def test_retries_are_bounded_and_a_busy_server_is_not_asked_for_halves(
        self, server: EmbeddingServer, connect: Connect, waits: list[float]
    ) -> None:
        embedder = connect(retries=2)
        embedder.prove()
        before = len(server.requests)
        server.fail = lambda texts: (429, {"error": {"message": "slow down"}})
        with pytest.raises(RagAssetsError, match=r"HTTP 429: .*slow down"):
            embedder.embed_documents(TEXTS[:8])
        assert (len(server.requests) - before, waits) == (3, [1, 2])
        server.fail = lambda texts: (429, {}, {"Retry-After": "3600"})
        with pytest.raises(RagAssetsError, match="HTTP 429"):
            embedder.embed_documents(TEXTS[:8])
        assert len(server.requests) - before == 4

    @pytest.mark.parametrize("status", [400, 413, 500])
    def test_one_text_that_fails_a_request_is_found_and_named(
        self, server: EmbeddingServer, connect: Connect, status: int
    ) -> None:
        embedder = connect(retries=1)
        embedder.prove()
        server.fail = lambda texts: (status, {"error": "no"}) if any("number 17 " in text for text in texts) else None
        with pytest.raises(RagAssetsError, match=rf"HTTP {status}.*this text alone: 'Text number 17 "):
            embedder.embed_documents(TEXTS[:30])
        assert embedder.embed_documents(TEXTS[:17]).shape == (17, 48)

    def test_a_request_too_large_for_the_server_goes_in_halves(self, server: EmbeddingServer, connect: Connect) -> None:
        embedder = connect()
        embedder.prove()
        server.fail = lambda texts: (413, {"error": "too large"}) if len(texts) > 8 else None
        assert np.abs(embedder.embed_documents(TEXTS) - MODEL.embed_queries(TEXTS)).max() < 1e-6

    def test_a_server_that_is_down_is_not_asked_for_every_half(self, server: EmbeddingServer, connect: Connect) -> None:
        embedder = connect(retries=1)
        embedder.prove()
        before = len(server.requests)
        server.fail = lambda texts: (503, {"error": "down"})
        with pytest.raises(RagAssetsError, match="HTTP 503"):
            embedder.embed_documents(TEXTS[:30])
        assert len(server.requests) - before == 3

    def test_the_deadline_holds_though_bytes_keep_coming(self, server: EmbeddingServer, connect: Connect) -> None:
        embedder = connect(retries=0, timeout_seconds=0.5)
        released = threading.Event()

        def hang(texts: list[str]) -> None:
            released.wait(20)

        connect().prove()  # LiteLLM is loaded
        server.fail = hang
        try:
            with pytest.raises(RagAssetsError, match=r"no reply within 0\.5 s"):
                embedder.embed_queries(["a question"])
        finally:
            released.set()

    def test_the_rate_limit_spaces_requests(
        self, server: EmbeddingServer, connect: Connect, waits: list[float]
    ) -> None:
        connect(requests_per_minute=6, concurrency=1).embed_documents(TEXTS)
        assert len(server.requests) == 4
        # 10 s between two of four, none of which is waited for here.
        assert [round(wait) for wait in waits] == [10, 20, 30]

    def test_tokens_and_money_are_counted(self, server: EmbeddingServer, connect: Connect) -> None:
        embedder = connect(usd_per_million_tokens=2.0)
        embedder.embed_documents(TEXTS)
        assert embedder.spent.requests == len(server.requests)
        sent = sum(len(text.split()) for request in server.requests for text in request["input"])
        assert embedder.spent.tokens == sent
        assert embedder.spent.cost_usd == pytest.approx(sent * 2e-6)
        assert embedder.usd_per_token() == 2e-6
        unknown = connect()
        unknown.embed_documents(TEXTS[:1])
        assert (unknown.spent.cost_usd, unknown.usd_per_token()) == (None, None)
        assert connect(model="openai/text-embedding-3-small").usd_per_token() == 2e-8


class TestMistakes:
    def test_an_address_where_nobody_answers(self, connect: Connect) -> None:
        with embedding_server(MODEL.embed_queries) as gone:
            pass
        with pytest.raises(RagAssetsError, match=rf"{gone.url} .*can't be reached.*9 s.*embedder\.api_base"):
            connect(api_base=gone.url, timeout_seconds=9, retries=0).prove()

    @pytest.mark.parametrize(("status", "words"), [(401, "refused the key.*SERVED_KEY"), (403, "refused the key.*SERVED_KEY"),
                                                   (404, "does not know the model 'openai/served'")])  # fmt: skip
    def test_a_key_or_a_model_that_is_refused(
        self, server: EmbeddingServer, connect: Connect, monkeypatch: pytest.MonkeyPatch, status: int, words: str
    ) -> None:
        monkeypatch.setenv("SERVED_KEY", KEY)
        server.fail = lambda texts: (status, {"error": {"message": f"refused {KEY}"}})
        with pytest.raises(ConfigurationError, match=words) as raised:
            connect(api_key_env="SERVED_KEY").prove()
        assert KEY not in str(raised.value)
        assert len(server.requests) == 1
        assert server.requests[0]["headers"]["Authorization"] == f"Bearer {KEY}"

    def test_the_key_of_a_provider_does_not_go_to_a_server_of_ones_own(
        self, server: EmbeddingServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        connect().prove()
        assert KEY not in str(server.requests)

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ({"api_key_env": "RAG_UNSET_KEY"}, "'RAG_UNSET_KEY': that environment variable is not set"),
            ({"model": "served"}, "wants PROVIDER/NAME"),
            ({"tokenizer": None}, "tokenizer of 'openai/served' is not on this machine.*embedder.tokenizer"),
            ({"tokenizer": "tiktoken:nothing"}, "tiktoken:nothing.*cl100k_base"),
            ({"parity": "litellm:openai/x"}, "a server is no reference"),
            ({"model": "nobody/served", "api_base": None, "retries": 0}, "does not know the model 'nobody/served'"),
        ],
    )
    def test_what_is_missing_is_named_before_anything_is_sent(
        self, server: EmbeddingServer, connect: Connect, values: dict[str, Any], words: str
    ) -> None:
        with pytest.raises(ConfigurationError, match=words):
            connect(**values).embed_documents(TEXTS[:1])
        assert server.requests == []

    def test_openais_own_models_are_measured_with_their_encoding(self, connect: Connect) -> None:
        embedder = connect(model="openai/text-embedding-3-small", tokenizer=None)
        assert (embedder.max_tokens, embedder.count_tokens(["tiktoken is great!", ""])) == (8191, [6, 0])
        assert embedder._tokenizer.cut("tiktoken is great!", 3) == "tiktoken"
