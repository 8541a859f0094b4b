"""ragas over a scripted judge: known verdicts give the values of the definitions, and no failure becomes a number."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from rag_assets.database.judgements import StoredReply
from rag_assets.errors import DatabaseLost
from rag_assets.evaluation.golden.questions import Label, Question
from rag_assets.evaluation.judge.calls import LONGEST_WAIT, Judge
from rag_assets.evaluation.judge.judging import Given, Measured, run_judge
from rag_assets.evaluation.judge.ragas_metrics import Sample, similarity_metrics
from rag_assets.generation.router import build_router
from rag_assets.models import Hit, silent
from rag_assets.settings import AnswerSettings, JudgeSettings
from rag_assets_tests.unit.generation.fakes import embed

from .judge_server import Fault, JudgeServer, cut, drip, html, judge_models, judge_server, refuses, says

QUESTION = "How many parking spaces does the garage have?"
ANSWER = "The garage has forty spaces. [1] It is open at night. [2] It is free. [3]"
GOLD = "Forty. It opens at six."
PASSAGES = ("The garage has forty parking spaces.", "It is open at night.", "Parking costs two euros.")


def verdicts(*values: int) -> dict[str, Any]:
    return {"statements": [{"statement": f"s{i}", "reason": "r", "verdict": value} for i, value in enumerate(values)]}


def script(server: JudgeServer) -> None:
    """Verdicts of a judge who finds the third sentence of the answer and half of the golden answer wrong."""
    server.replies = {
        "statements": lambda asked: {"statements": ["forty", "open", "free"]},
        "claims": lambda asked: {
            "claims": ["forty", "six"] if asked["response"] == GOLD else ["forty", "open", "free"]
        },
        "verdicts": lambda asked: (
            verdicts(*(1, 1, 0)[: len(asked["statements"])]) if len(asked["statements"]) == 3 else verdicts(1, 0)
        ),
        "question": lambda asked: {"question": QUESTION, "noncommittal": 0},
        "useful": lambda asked: {"reason": "r", "verdict": int("open" not in asked["context"])},
        "recall": lambda asked: {
            "classifications": [{"statement": s, "reason": "r", "attributed": v} for s, v in (("a", 1), ("b", 0))]
        },
    }


EXPECTED = {
    "faithfulness": 2 / 3,
    "answer_relevancy": 1.0,
    # Useful are the first and the third passage: (1/1 + 2/3) / 2.
    "context_precision": (1 + 2 / 3) / 2,
    "context_recall": 1 / 2,
    # Precision 2/3; one claim of the golden answer is missing, so F1 = 2·2 / (2·2 + 1 + 1), which ragas rounds.
    "factual_correctness": 0.67,
}
CALLS = {"statements": 1, "verdicts": 3, "question": 3, "useful": 3, "recall": 1, "claims": 2}


class MemoryReplies:
    """Replies kept in a dictionary."""

    def __init__(self) -> None:
        self.kept: dict[str, StoredReply] = {}
        self.documents: dict[str, set[str]] = {}

    def find(self, key: str) -> StoredReply | None:
        return self.kept.get(key)

    def keep(self, key: str, reply: StoredReply, documents: Sequence[str]) -> None:
        self.kept.setdefault(key, reply)
        self.documents.setdefault(key, set()).update(documents)


class Bench:
    """A scripted server, and judges that ask it."""

    def __init__(self, server: JudgeServer, folder: Path) -> None:
        self.server, self.folder, self.replies = server, folder, MemoryReplies()
        self.models = judge_models(folder, server.address)
        self.slept: list[float] = []
        self.judge: Judge | None = None

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def run(self, *given: Given, **settings: Any) -> dict[tuple[str, str], Measured]:
        chosen = JudgeSettings(**{"model": "judge", "timeout_seconds": 5, "concurrency": 1, **settings})
        asked = AnswerSettings(models=self.models, model="judge")
        router = build_router(asked, embed, num_retries=0, disable_cooldowns=True, timeout=chosen.timeout_seconds)
        self.judge = Judge(router, chosen, self.replies, sleep=self._sleep)
        return asyncio.run(run_judge(self.judge, embed, given or (answered("q1"),), silent))


def answered(key: str, *, answer: str | None = ANSWER, gold: str | None = GOLD, **more: Any) -> Given:
    hits = tuple(
        Hit(rank, f"doc{rank}.md", f"c{rank}", text, {"dense": 0.5}, {}) for rank, text in enumerate(PASSAGES, start=1)
    )
    question = Question(key, more.pop("question", QUESTION), gold, more.pop("relevant", (Label("doc1.md"),)))
    return Given(question, answer, **{"passages": hits, **more})


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with judge_server() as server:
        script(server)
        yield Bench(server, tmp_path)


def values(found: dict[tuple[str, str], Measured], key: str = "q1") -> dict[str, float | None]:
    return {name: item.value for (question, name), item in found.items() if question == key}


def reasons(found: dict[tuple[str, str], Measured]) -> list[str | None]:
    return [item.reason for item in found.values()]


def test_scripted_verdicts_give_the_values_of_the_definitions(bench: Bench) -> None:
    assert values(bench.run()) == pytest.approx(EXPECTED, abs=1e-6)
    assert dict(bench.server.asked) == CALLS
    prompts = [body["messages"][-1]["content"] for _, _, body in bench.server.requests]
    assert not any("[1]" in prompt.rpartition("input: ")[2] for prompt in prompts), "citation marks are no claims"


def test_an_evasive_answer_is_not_relevant(bench: Bench) -> None:
    bench.server.replies["question"] = lambda asked: {"question": QUESTION, "noncommittal": 1}
    assert values(bench.run(metrics=("answer_relevancy",))) == {"answer_relevancy": 0}


def test_what_is_kept_is_not_asked_again(bench: Bench) -> None:
    first = bench.run(answered("q1"), answered("q2", answer="Forty. [1]"), concurrency=4)
    sent = bench.server.total
    second = bench.run(answered("q1"), answered("q2", answer="Forty. [1]"), concurrency=4)
    assert bench.server.total == sent
    assert second == first
    assert bench.judge is not None
    assert bench.judge.spent.calls == 0
    assert set.union(*bench.replies.documents.values()) == {"doc1.md", "doc2.md", "doc3.md"}
    # One metric more pays for that one alone.
    bench.replies.kept.clear()
    bench.run(metrics=("faithfulness",))
    bench.server.asked.clear()
    bench.run(metrics=("faithfulness", "context_recall"))
    assert dict(bench.server.asked) == {"recall": 1}


def test_another_model_or_parameter_is_another_call_but_another_key_is_not(bench: Bench) -> None:
    bench.run(metrics=("context_recall",))
    bench.models = judge_models(bench.folder, bench.server.address, params="      max_tokens: 99\n")
    bench.run(metrics=("context_recall",))
    assert bench.server.total == 2
    bench.models.write_text(bench.models.read_text().replace("sk-test", "sk-other"))
    bench.run(metrics=("context_recall",))
    assert bench.server.total == 2


def test_without_calls_only_kept_replies_count(bench: Bench) -> None:
    bench.run(metrics=("faithfulness",))
    sent = bench.server.total
    found = bench.run(metrics=("faithfulness", "context_recall"), replay_only=True)
    assert bench.server.total == sent
    assert found["q1", "faithfulness"].value == pytest.approx(2 / 3)
    assert found["q1", "context_recall"] == Measured(None, "no reply is kept (judge.replay_only)")


@pytest.mark.parametrize(
    ("fault", "waits"),
    [
        (refuses(429, retry_after="7"), [7, 7]),
        (refuses(503, retry_after="2"), [2, 2]),
        (refuses(500), [1]),
        (html, [1]),
        (cut, [1]),
    ],
    ids=["429", "503", "500", "html", "cut"],
)
def test_a_call_that_fails_once_is_repeated_and_measured(bench: Bench, fault: Fault, waits: list[float]) -> None:
    """A Retry-After holds back every other call too, so it is waited for at the retry's turn as well."""
    bench.server.faults["recall"] = [fault]
    assert values(bench.run(metrics=("context_recall",))) == {"context_recall": 0.5}
    assert [round(seconds) for seconds in bench.slept] == waits
    assert bench.server.total == 2


def test_a_time_to_wait_may_be_a_date(bench: Bench) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    bench.server.faults["recall"] = [refuses(429, retry_after=soon)]
    assert values(bench.run(metrics=("context_recall",))) == {"context_recall": 0.5}
    assert 2 < bench.slept[0] <= 90


def test_a_database_that_fails_is_no_judgement_and_costs_no_further_call(bench: Bench) -> None:
    def keep(*_: object) -> None:
        raise DatabaseLost("gone")

    bench.replies.keep = keep  # type: ignore[method-assign]
    with pytest.raises(DatabaseLost):
        bench.run(*FIVE, metrics=("context_recall",))
    assert bench.server.total == 1


def test_a_reply_that_drips_is_cut_off_in_time_and_asked_for_again(bench: Bench) -> None:
    bench.server.faults["recall"] = [drip]
    assert values(bench.run(metrics=("context_recall",), timeout_seconds=0.5)) == {"context_recall": 0.5}


@pytest.mark.parametrize(
    ("fault", "reason", "requests"),
    [
        (refuses(429), "HTTP 429", 3),
        (refuses(429, retry_after=str(LONGEST_WAIT + 1)), "HTTP 429, asks to wait 121 s", 1),
        (refuses(500), "HTTP 500", 3),
        (html, "no chat completion in the reply", 3),
        (cut, "connection failed", 3),
        (drip, "timeout", 3),
        (refuses(401), "key refused (HTTP 401)", 1),
        (says("I think it is quite good."), "invalid JSON", 3),
        (says('{"classifications": "none"}'), "JSON of the wrong shape", 3),
        (says('{"classifications": []}'), "JSON of the wrong shape", 3),
        (says('{"classifications": [{"statement": "a", "reason": "r", "attributed": 5}]}'), "JSON of the wrong shape", 3),
        (says('{"classifications": [{"stat', "length"), "the reply was cut off at max_tokens", 1),
    ],
)  # fmt: skip
def test_a_call_that_keeps_failing_is_unmeasured_with_its_reason(
    bench: Bench, fault: Fault, reason: str, requests: int
) -> None:
    bench.server.always = fault
    found = bench.run(metrics=("context_recall",), retries=2, timeout_seconds=0.5 if fault is drip else 5)
    assert found == {("q1", "context_recall"): Measured(None, reason)}
    assert bench.server.total == requests


@pytest.mark.parametrize(
    ("metric", "kind", "reply"),
    [
        ("faithfulness", "verdicts", verdicts(1, 1)),
        ("faithfulness", "verdicts", verdicts(1, 1, 2)),
        ("faithfulness", "statements", {"statements": []}),
        ("faithfulness", "statements", {"statements": ["  "]}),
        ("factual_correctness", "claims", {"claims": []}),
        ("factual_correctness", "verdicts", {"statements": []}),
        ("context_precision", "useful", {"reason": "r", "verdict": 3}),
        ("context_precision", "useful", {"reason": "r", "verdict": None}),
        ("answer_relevancy", "question", {"question": "", "noncommittal": 0}),
        ("answer_relevancy", "question", {"question": "Why?", "noncommittal": -1}),
    ],
)
def test_a_reply_that_ragas_would_turn_into_a_wrong_number_is_refused(
    bench: Bench, metric: str, kind: str, reply: dict[str, Any]
) -> None:
    bench.server.replies[kind] = lambda asked: reply
    assert reasons(bench.run(metrics=(metric,))) == ["JSON of the wrong shape"]


def test_a_judge_shown_its_mistake_may_correct_it(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.server.faults["verdicts"] = [says(json.dumps(verdicts(1, 1)))]
    assert values(bench.run(metrics=("faithfulness",))) == {"faithfulness": pytest.approx(2 / 3)}
    assert "one verdict for each of the 3 statements" in bench.server.requests[-1][2]["messages"][-1]["content"]
    sent = bench.server.total
    assert values(bench.run(metrics=("faithfulness",))) == {"faithfulness": pytest.approx(2 / 3)}
    assert bench.server.total == sent
    bench.server.always = says("the words of a document")
    bench.run(metrics=("context_recall",))
    assert caplog.text == "", "logs would quote documents"


FIVE = [answered(f"q{number}", question=f"{QUESTION} ({number})") for number in range(5)]


@pytest.mark.parametrize(
    ("budget", "reason"),
    [
        ({"max_calls": 3}, "budget spent (judge.max_calls = 3)"),
        ({"max_tokens": 330}, "budget spent (judge.max_tokens = 330)"),  # 110 a call
        ({"max_cost_usd": 0.00036}, "budget spent (judge.max_cost_usd = 0.00036)"),  # 0.00012 a call
    ],
)
def test_a_spent_budget_leaves_exactly_the_rest_unmeasured(bench: Bench, budget: dict[str, Any], reason: str) -> None:
    found = bench.run(*FIVE, metrics=("context_recall",), **budget)
    assert reasons(found) == [None, None, None, reason, reason]
    assert bench.server.total == 3
    assert bench.judge is not None
    assert bench.judge.spent.cost_usd == pytest.approx(0.00036)
    assert reasons(bench.run(*FIVE, metrics=("context_recall",), **budget)) == [None] * 5, "the next run goes on"
    assert bench.server.total == 5


@pytest.mark.parametrize("budget", [{"max_calls": 2}, {"max_tokens": 230}, {"max_cost_usd": 0.00025}])
def test_calls_in_flight_count_against_the_budget(bench: Bench, budget: dict[str, Any]) -> None:
    found = bench.run(*FIVE, metrics=("context_recall",), concurrency=8, **budget)
    assert [item is None for item in reasons(found)] == [True, True, False, False, False]
    assert bench.server.total == 2


def test_a_cost_that_nobody_knows_is_not_spent_blindly(bench: Bench) -> None:
    text = bench.models.read_text()
    bench.models.write_text("".join(line for line in text.splitlines(True) if "cost_per_token" not in line))
    found = bench.run(*FIVE[:3], metrics=("context_recall",), max_cost_usd=1)
    assert bench.server.total == 1
    assert "no price is known" in str(reasons(found)[1])


def test_a_judge_that_is_down_is_given_up(bench: Bench) -> None:
    bench.server.always = refuses(500)
    many = [answered(f"q{number:02}", question=f"{QUESTION} ({number})") for number in range(15)]
    found = bench.run(*many, metrics=("context_recall",), retries=0)
    assert bench.server.total == 10
    assert reasons(found)[9:11] == ["HTTP 500", "given up after 10 calls failed in a row, the last: HTTP 500"]
    bench.server.requests.clear()
    bench.server.always = refuses(401)
    assert reasons(bench.run(*many, metrics=("context_recall",))) == ["key refused (HTTP 401)"] * 15
    assert bench.server.total == 1


def test_a_fallback_judges_where_the_judge_fails_and_is_named(bench: Bench) -> None:
    with judge_server() as other:
        script(other)
        second = judge_models(bench.folder, other.address).read_text().partition("model_list:\n")[2]
        fallback = second.replace("model_name: judge", "model_name: second")
        bench.models = judge_models(
            bench.folder, bench.server.address, fallback + "router_settings: {fallbacks: [{judge: [second]}]}\n"
        )
        bench.server.always = refuses(500)
        assert values(bench.run(metrics=("context_recall",))) == {"context_recall": 0.5}
        assert other.total == 1
    assert bench.judge is not None
    assert [reply.model for reply in bench.judge.used.values()] == ["second"]


def test_requests_are_paced(bench: Bench) -> None:
    bench.run(*FIVE, metrics=("context_recall",), requests_per_minute=60, concurrency=5)
    assert [round(seconds) for seconds in bench.slept] == [1, 2, 3, 4]


def test_repeats_are_new_calls_and_their_median_counts(bench: Bench) -> None:
    attributed = iter((1, 0, 1))

    def moving(asked: dict[str, Any]) -> dict[str, Any]:
        return {"classifications": [{"statement": "a", "reason": "r", "attributed": next(attributed)}]}

    bench.server.replies["recall"] = moving
    found = bench.run(metrics=("context_recall",), repeats=3)
    assert found == {("q1", "context_recall"): Measured(1.0, None, 1.0)}
    assert bench.run(metrics=("context_recall",), repeats=3) == found
    assert bench.server.total == 3


def test_half_of_the_repeats_is_too_few(bench: Bench) -> None:
    bench.server.faults["recall"] = [refuses(400)]
    found = bench.run(metrics=("context_recall",), repeats=2)
    assert found == {("q1", "context_recall"): Measured(None, "request refused (HTTP 400)")}


def test_what_needs_no_judge_is_not_asked(bench: Bench) -> None:
    found = bench.run(
        answered("refused", answer="The documents do not answer this question.", abstained=True, passages=()),
        answered("failed", answer=None, passages=()),
        answered("unanswerable", gold=None, relevant=()),
        answered("no gold", gold=None),
        max_calls=1,
    )
    assert values(found, "refused") == {
        "answer_relevancy": 0, "context_precision": 0, "context_recall": 0, "factual_correctness": 0
    }  # fmt: skip
    assert values(found, "failed") == dict.fromkeys(EXPECTED)
    assert set(values(found, "unanswerable")) == {"faithfulness"}
    assert set(values(found, "no gold")) == {"faithfulness", "answer_relevancy"}


def compare(**sample: Any) -> dict[str, float]:
    given = {"question": "q", "answer": "", "reference": None, "contexts": (), **sample}
    return asyncio.run(similarity_metrics(embed)(Sample(**given)))  # type: ignore[arg-type]


def test_comparisons_of_texts_are_those_of_their_definitions() -> None:
    found = compare(answer="the cat sat", reference="the cat ran")
    assert found["rouge_l"] == pytest.approx(2 / 3)
    assert found["string_similarity"] == pytest.approx(1 - 2 / 11)  # two of eleven letters differ
    # Precision of words 2/3, of pairs 1/2, of triples 0 (smoothed to half of one in one).
    assert found["bleu"] == pytest.approx((2 / 3 * 1 / 2 * 1 / 2) ** (1 / 3))
    assert 0 < found["chrf"] < 1
    assert 0 < found["semantic_similarity"] < 1
    same = compare(answer="It opens at six. It is free.", reference="It opens at six. It is free.")
    assert same == pytest.approx(dict.fromkeys(same, 1.0))
    assert compare(answer="", reference="x") == dict.fromkeys(same, 0.0)


def test_every_sentence_counts_in_bleu() -> None:
    from sacrebleu import sentence_bleu

    answer, reference = "It opens at six. It is free.", "It opens at six. Parking costs two euros."
    found = compare(answer=answer, reference=reference)["bleu"]
    assert found == pytest.approx(sentence_bleu(answer, [reference]).score / 100)
    assert found < 0.6


def test_two_words_that_are_right_score_fully_and_rouge_stays_away_from_scripts_it_cannot_read() -> None:
    assert compare(answer="14 months", reference="14 months")["bleu"] == pytest.approx(1)
    found = compare(answer="東京は日本の首都です", reference="東京は日本の首都です")
    assert "rouge_l" not in found
    assert found["string_similarity"] == 1


def test_documents_given_are_compared_with_those_labelled() -> None:
    found = compare(documents=("a.md", "b.md", "a.md", "c.md"), relevant=("a.md", "d.md"))
    assert found == {"id_context_precision": pytest.approx(1 / 3), "id_context_recall": 0.5}
