"""Answers that come piece by piece: what is timed, counted and refused, over the protocol itself and from the offline answerer."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rag_assets.errors import RagAssetsError
from rag_assets.generation.packing import pack
from rag_assets.generation.router import build_router
from rag_assets.generation.streaming import Streamed, stream_answer
from rag_assets.settings import AnswerSettings

from .fakes import SECRET, ChatServer, chat_server, count_tokens, embed, hit, write_models

QUESTION = "How many parking spaces does the garage have?"
HITS = [hit(1, "The canteen opens at noon. The garage has forty parking spaces. It closes at ten.")]
PAUSE = 0.02


def stream(router: Any, model: str) -> Streamed:
    settings = AnswerSettings(model=model)
    context = pack(HITS, settings, count_tokens)
    return stream_answer(QUESTION, context, router=router, settings=settings, count_tokens=count_tokens)


def stream_from(server: ChatServer, folder: Path) -> Streamed:
    path = write_models(folder, server.address, "router_settings: {disable_cooldowns: true}\n")
    return stream(build_router(AnswerSettings(models=path, model="team"), embed), "team")


def streams(server: ChatServer, *pieces: str, usage: int | None = None) -> None:
    """Let the server send these pieces as events."""
    base = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "served"}
    choices = [{"index": 0, "delta": {"content": piece}, "finish_reason": None} for piece in pieces]
    events: list[dict[str, Any]] = [{**base, "choices": [choice]} for choice in choices]
    events.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    if usage is not None:
        counts = {"prompt_tokens": 9, "completion_tokens": usage, "total_tokens": 9 + usage}
        events.append({**base, "choices": [], "usage": counts})
    server.content_type = "text/event-stream"
    server.body = b"".join(f"data: {json.dumps(event)}\n\n".encode() for event in events) + b"data: [DONE]\n\n"


class PausingRouter:
    """Streams three pieces, the first of them empty as servers send it, with a pause before each."""

    def completion(self, **asked: Any) -> Iterator[Any]:
        assert asked["stream"] is True
        for piece in ("", "Forty", " spaces."):
            time.sleep(PAUSE)
            yield SimpleNamespace(choices=[SimpleNamespace(delta=SimpleNamespace(content=piece))])


def test_the_first_token_is_the_first_text_and_the_time_runs_to_the_last() -> None:
    found = stream(PausingRouter(), "any")
    assert found.text == "Forty spaces."
    assert found.first_token >= 2 * PAUSE
    assert found.seconds >= found.first_token + PAUSE
    assert found.completion_tokens == 2, "nobody said how many, so they are counted"
    assert found.tokens_per_second == pytest.approx(2 / found.seconds)


def test_a_server_s_pieces_are_joined_and_its_own_count_of_tokens_is_asked_for(tmp_path: Path) -> None:
    with chat_server() as server:
        streams(server, "", "The garage has ", "forty spaces [1].", usage=17)
        found = stream_from(server, tmp_path)
        (sent,) = server.requests
    assert found.text == "The garage has forty spaces [1]."
    assert found.completion_tokens == 17
    assert 0 < found.first_token <= found.seconds
    assert (sent["stream"], sent["stream_options"]) == (True, {"include_usage": True})


@pytest.mark.parametrize("case", ["error", "empty"])
def test_a_model_that_fails_or_says_nothing_is_named_and_no_fast_answer(tmp_path: Path, case: str) -> None:
    with chat_server() as server, pytest.raises(RagAssetsError) as caught:  # noqa: PT012
        if case == "error":
            server.fails(500, f"upstream refused {SECRET}")
        else:
            streams(server, "", "  ")
        stream_from(server, tmp_path)
    assert "The model team" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert {"error": "server's log", "empty": "empty answer"}[case] in str(caught.value)


def test_the_offline_answerer_is_timed_like_any_other() -> None:
    found = stream(build_router(AnswerSettings(), embed), "offline-extractive")
    assert "forty parking spaces" in found.text
    assert found.completion_tokens > 3
    # It has its whole answer before it sends the first word of it.
    assert 0 < found.first_token <= found.seconds
