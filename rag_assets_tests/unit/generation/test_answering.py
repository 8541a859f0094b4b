from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from rag_assets.errors import RagAssetsError
from rag_assets.generation.answering import Answer, Citation, abstains, answer, find_quote
from rag_assets.generation.packing import pack
from rag_assets.generation.prompt import ABSTENTION
from rag_assets.generation.router import build_router
from rag_assets.models import Hit
from rag_assets.settings import AnswerSettings

from .fakes import (
    SECRET,
    ChatServer,
    chat_server,
    count_tokens,
    embed,
    hit,
    write_models,
)

QUESTION = "How many parking spaces does the garage have?"
HITS = [
    hit(1, "The canteen opens at noon. Bicycles stand in the yard."),
    hit(2, "Mind the gate.\nThe garage has\nforty parking spaces. It closes at ten.", ("Building", "Garage")),
]
NO_COOLDOWN = "router_settings: {disable_cooldowns: true}\n"


def ask(router: Any, model: str = "team", hits: list[Hit] = HITS, question: str = QUESTION, **settings: Any) -> Answer:
    # Read by the router, not here: a model list that is wrong is its business.
    chosen = AnswerSettings(model=model, **settings)
    context = pack(hits, chosen, count_tokens)
    return answer(question, context, router=router, settings=chosen, count_tokens=count_tokens)


def ask_server(server: ChatServer, folder: Path, extra: str = NO_COOLDOWN, timeout: float = 20) -> Answer:
    path = write_models(folder, server.address, extra)
    return ask(build_router(AnswerSettings(models=path, model="team", timeout_seconds=timeout), embed))


def test_a_cited_answer_carries_exact_quotes_and_what_it_cost(tmp_path: Path) -> None:
    with chat_server() as server:
        server.says("The garage has forty parking spaces [2]. It closes at ten o'clock. [2] Bikes go to the yard. [1]")
        extra = "      input_cost_per_token: 0.001\n      output_cost_per_token: 0.01\n"
        result = ask_server(server, tmp_path, extra)
        sent = str(server.requests[0]["messages"])
    assert "Building" in sent
    assert "folder/doc2.md" in sent
    assert result.supported
    assert result.model == "team"
    assert result.citations == (
        Citation("folder/doc2.md", "chunk2", "The garage has\nforty parking spaces."),
        Citation("folder/doc2.md", "chunk2", "It closes at ten."),
        Citation("folder/doc1.md", "chunk1", "Bicycles stand in the yard."),
    )
    texts = {entry.chunk_id: entry.text for entry in HITS}
    assert all(citation.quote in texts[citation.chunk_id] for citation in result.citations)
    assert (result.prompt_tokens, result.completion_tokens) == (120, 9)
    assert result.cost_usd == pytest.approx(0.12 + 0.09)
    assert result.seconds > 0
    assert result.passages == tuple(HITS)


def test_the_text_is_what_the_model_wrote(tmp_path: Path) -> None:
    text = "  **Forty** [2][9].\n\n- see <b>[2]</b>\n"
    with chat_server() as server:
        server.says(text)
        result = ask_server(server, tmp_path)
    assert result.text == text
    assert result.unknown_citations == (9,)
    assert {citation.chunk_id for citation in result.citations} == {"chunk2"}


def test_citations_out_of_range_support_nothing(tmp_path: Path) -> None:
    with chat_server() as server:
        server.says("Forty. [7] I am sure. [0]")
        result = ask_server(server, tmp_path)
    assert (result.citations, result.supported, result.unknown_citations) == ((), False, (7, 0))


def test_an_uncited_answer_is_not_supported(tmp_path: Path) -> None:
    with chat_server() as server:
        server.says("Forty, I should think.")
        assert not ask_server(server, tmp_path).supported


def test_an_abstention_cites_nothing_even_if_the_model_does(tmp_path: Path) -> None:
    with chat_server() as server:
        server.says(f"{ABSTENTION} [1]")
        result = ask_server(server, tmp_path)
    assert (result.citations, result.supported) == ((), False)


def test_the_cost_is_unknown_where_no_price_is_known(tmp_path: Path) -> None:
    with chat_server() as server:
        server.says("Forty. [2]")
        assert ask_server(server, tmp_path).cost_usd is None


def test_without_hits_it_abstains_and_calls_no_model() -> None:
    result = ask(object(), hits=[])
    assert (result.text, result.supported, result.passages, result.model) == (ABSTENTION, False, (), "team")


def test_the_offline_answerer_is_answered_supported_and_free() -> None:
    result = ask(build_router(AnswerSettings(), embed), "offline-extractive")
    assert result.text == "The garage has forty parking spaces. [2]"
    assert result.citations == (Citation("folder/doc2.md", "chunk2", "The garage has\nforty parking spaces."),)
    assert (result.supported, result.cost_usd, result.model) == (True, 0.0, "offline-extractive")


def test_after_a_fallback_the_answer_names_the_model_that_gave_it(tmp_path: Path) -> None:
    path = write_models(tmp_path, "127.0.0.1:9", "router_settings: {fallbacks: [{team: [offline-extractive]}]}\n")
    result = ask(build_router(AnswerSettings(models=path, model="team"), embed))
    assert (result.model, result.supported, result.cost_usd) == ("offline-extractive", True, 0.0)


def test_passages_beyond_the_budget_are_left_out_and_citations_still_fit() -> None:
    router = build_router(AnswerSettings(), embed)
    long = hit(1, "word " * 300)
    result = ask(router, "offline-extractive", [long, HITS[1]], context_tokens=100)
    assert (result.passages, result.context.left_out) == ((HITS[1],), (long,))
    assert [citation.chunk_id for citation in result.citations] == ["chunk2"]
    with pytest.raises(RagAssetsError, match=r"answers\.context_tokens"):
        ask(router, "offline-extractive", [long], context_tokens=100)


DOCUMENT = "The yard is wide. The garage has forty parking spaces. It closes at ten. Bikes stand in the yard."


def chunk(rank: int, start: int, end: int, document: str = "garage.md") -> Hit:
    return Hit(rank, document, f"{document}:{start}", DOCUMENT[start:end], {"dense": 0.5}, {"start": start, "end": end})


def test_a_quote_from_joined_chunks_names_the_chunk_that_holds_it(tmp_path: Path) -> None:
    first, second = chunk(2, 0, 72), chunk(1, 18, len(DOCUMENT))
    with chat_server() as server:
        server.says("The yard is wide. [1] The garage has forty parking spaces. [1] Bikes stand in the yard. [1]")
        router = build_router(AnswerSettings(models=write_models(tmp_path, server.address), model="team"), embed)
        result = ask(router, hits=[second, first])
        assert str(server.requests[0]["messages"]).count("forty parking spaces") == 1
    assert len(result.context.passages) == 1
    assert [(citation.chunk_id, citation.quote) for citation in result.citations] == [
        ("garage.md:0", "The yard is wide."),
        ("garage.md:18", "The garage has forty parking spaces."),  # both hold it: the better one
        ("garage.md:18", "Bikes stand in the yard."),
    ]


def test_a_sentence_across_two_chunks_is_quoted_from_the_one_with_more_of_it(tmp_path: Path) -> None:
    cut = DOCUMENT.index("parking")
    hits = [chunk(1, 0, cut), chunk(2, cut, len(DOCUMENT))]
    with chat_server() as server:
        server.says("The garage has forty parking spaces. [1]")
        router = build_router(AnswerSettings(models=write_models(tmp_path, server.address), model="team"), embed)
        (citation,) = ask(router, hits=hits).citations
    assert (citation.chunk_id, citation.quote) == ("garage.md:0", "The garage has forty")


def test_a_prompt_longer_than_the_window_is_an_error_with_the_numbers_and_the_settings() -> None:
    with pytest.raises(RagAssetsError) as error:
        ask(object(), hits=[hit(1, "word " * 300)], window_tokens=1200)
    message = str(error.value)
    for needed in ("188 are allowed", "answers.window_tokens = 1200", "answers.answer_tokens = 512", "raise"):
        assert needed in message
    raised = int(message.rsplit("answers.window_tokens to ", 1)[1].rstrip("."))
    router = build_router(AnswerSettings(), embed)
    for window, fits in ((raised, True), (raised - 1, False)):
        with nullcontext() if fits else pytest.raises(RagAssetsError, match=r"answers\.window_tokens"):
            ask(router, "offline-extractive", hits=[hit(1, "word " * 300)], window_tokens=window)


def test_a_question_too_long_for_the_window_is_named_as_the_cause() -> None:
    with pytest.raises(RagAssetsError, match="ask a question shorter than 900 tokens"):
        ask(object(), question="why " * 900, window_tokens=1200)


@pytest.mark.parametrize(
    ("status", "message", "needed"),
    [
        (500, f"boom with Bearer {SECRET}", ["error", "boom", "fallback"]),
        (503, "out to lunch", ["out to lunch", "log"]),
        (429, f"slow down {SECRET}", ["429", "fallback"]),
        (401, f"Incorrect API key provided: {SECRET[:9]}***6789", ["key was refused", "api_key"]),
        (404, "no such model", ["404", "no such model"]),
        (400, "temperature is odd", ["refused", "temperature is odd"]),
        (400, "This model's maximum context length is 10 tokens", ["too long", "answers.context_tokens"]),
    ],
)
def test_a_failing_server_is_named_with_reason_and_cure_and_without_the_key(
    tmp_path: Path, status: int, message: str, needed: list[str]
) -> None:
    with chat_server() as server:
        server.fails(status, message)
        with pytest.raises(RagAssetsError) as error:
            ask_server(server, tmp_path)
        address = server.address
        assert len(server.requests) == 1
    check_message(str(error.value), address, needed)
    assert error.value.__suppress_context__


def test_neither_an_unusual_key_of_ours_nor_a_key_of_others_is_shown(tmp_path: Path) -> None:
    with chat_server() as server:
        server.fails(500, "upstream refused correct horse and hf_abcdefghij0123")
        path = write_models(tmp_path, server.address)
        path.write_text(path.read_text().replace(SECRET, "correct horse"))
        with pytest.raises(RagAssetsError, match="upstream refused … and …"):
            ask(build_router(AnswerSettings(models=path, model="team"), embed))


def check_message(message: str, address: str, needed: list[str]) -> None:
    for text in [f"The model team at {address} failed", *needed]:
        assert text in message
    assert "\n" not in message
    for hidden in (SECRET, SECRET[:9], "6789", "user:pass", "Traceback"):
        assert hidden not in message.replace(address, "")


def test_a_web_page_instead_of_an_answer_is_an_error(tmp_path: Path) -> None:
    with chat_server() as server:
        server.content_type, server.body = "text/html", b"<html><body>Please log in</body></html>"
        with pytest.raises(RagAssetsError) as error:
            ask_server(server, tmp_path)
        check_message(str(error.value), server.address, ["Please log in"])


@pytest.mark.parametrize("body", [b'{"hello": 1}', b'{"choices": [{"mess'])
def test_a_reply_that_is_no_completion_is_an_error(tmp_path: Path, body: bytes) -> None:
    with chat_server() as server:
        server.body = body
        with pytest.raises(RagAssetsError, match="The model team at"):
            ask_server(server, tmp_path)


def test_an_empty_answer_is_an_error(tmp_path: Path) -> None:
    with chat_server() as server:
        server.says(" \n")
        with pytest.raises(RagAssetsError, match="empty answer"):
            ask_server(server, tmp_path)


def test_a_server_that_hangs_is_given_up_after_the_set_time(tmp_path: Path) -> None:
    with chat_server() as server:
        server.hangs.set()
        with pytest.raises(RagAssetsError) as error:
            ask_server(server, tmp_path, timeout=1)
        assert len(server.requests) == 1
        check_message(str(error.value), server.address, ["in time", "answers.timeout_seconds"])


def test_a_server_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    path = write_models(tmp_path, "127.0.0.1:9")
    with pytest.raises(RagAssetsError) as error:
        ask(build_router(AnswerSettings(models=path, model="team"), embed))
    check_message(str(error.value), "127.0.0.1:9", ["can't be reached", "api_base"])


def test_when_the_fallbacks_fail_too_the_error_says_so(tmp_path: Path) -> None:
    other = "  - {model_name: other, litellm_params: {model: openai/x, api_base: 'http://127.0.0.1:9', api_key: x}}\n"
    path = write_models(tmp_path, "127.0.0.1:9", other + "router_settings: {fallbacks: [{team: [other]}]}\n")
    with pytest.raises(RagAssetsError, match="and so did its fallbacks"):
        ask(build_router(AnswerSettings(models=path, model="team"), embed))


@pytest.mark.parametrize(
    ("text", "expected"),
    [(ABSTENTION, True), (f' "{ABSTENTION.rstrip(".").upper()}" ', True), ("They do. [1]", False), ("", False)],
)
def test_abstentions_are_recognised(text: str, expected: bool) -> None:
    assert abstains(text) is expected


def test_a_quote_is_verbatim_or_the_likest_sentence() -> None:
    text = "First (odd*) sentence.\nThe  second\none is here. A third about pumps."
    assert find_quote("The second one is here.", text) == "The  second\none is here."
    assert find_quote("Pumping, he says.", text) == "A third about pumps."
    assert find_quote("First (odd*) sentence", text) == "First (odd*) sentence"
    assert find_quote("", " ") == " "
