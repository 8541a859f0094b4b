"""Two generations of a small index: what moved between them and why, and the older one evaluated as it was."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from rag_assets.cli.impact import print_impact
from rag_assets.errors import ConfigurationError, GateRefused, RagAssetsError
from rag_assets.evaluation import publishing, store
from rag_assets.evaluation.golden.questions import load_questions
from rag_assets.evaluation.impact.comparing import Impact, Moved, compare_generations
from rag_assets.evaluation.impact.holdings import held_texts, is_frozen
from rag_assets.evaluation.provenance import corpus_texts
from rag_assets.evaluation.publishing import evaluate_generation
from rag_assets.evaluation.retained import retained_generation
from rag_assets.indexing.forgetting import forget
from rag_assets_tests.driving import OpenIndex, WarmRuntime, live, query, run, write
from rag_assets_tests.fakes import FakeEmbedder

FILLER = [f"filler{n} stone{n} cloud{n}" for n in range(6)]
LONG = "\n\n".join(f"river{n} tide{n} harbour{n} anchor{n} sail{n} wind{n} rope{n} deck{n}." for n in range(6))
QUESTIONS = [
    {"id": "edited", "question": "alpha beta", "relevant": [{"document": "edited.md", "quote": "alpha"}]},
    {"id": "requoted", "question": "alpha beta", "relevant": [{"document": "edited.md", "quote": "alpha alpha beta"}]},
    {"id": "rivalled", "question": "gamma delta", "relevant": [{"document": "rivalled.md"}]},
    {
        "id": "recut",
        "question": "river3 tide3 harbour3 anchor3 sail3 wind3",
        "relevant": [{"document": "long.md", "quote": "sail3 wind3"}],
    },
    {"id": "arrived", "question": "gamma epsilon", "relevant": [{"document": "rival.md"}]},
    {"id": "gone", "question": "omega", "relevant": [{"document": "gone.md"}]},
    {
        "id": "partly",
        "question": "alpha alpha beta filler2 stone2",
        "relevant": [{"document": "edited.md", "quote": "alpha alpha beta"}, {"document": "filler2.md"}],
    },
    {"id": "same", "question": "filler1 stone1", "relevant": [{"document": "filler1.md"}]},
]


@pytest.fixture
def before(open_index: OpenIndex, source: Path) -> WarmRuntime:
    """The first generation, live."""
    texts = {
        "edited": "alpha alpha beta",
        "rivalled": "gamma delta zeta",
        "long": LONG,
        "gone": "omega omega",
        "near": "river3 tide3 harbour3 pebble3",
    }
    for name, text in {**texts, **{f"filler{n}": text for n, text in enumerate(FILLER)}}.items():
        write(source, f"{name}.md", text + "\n")
    runtime = open_index(retrieval={"mode": "dense"}, chunking={"max_tokens": 128, "overlap_tokens": 0})
    run(runtime)
    return runtime


@pytest.fixture
def after(open_index: OpenIndex, before: WarmRuntime, source: Path) -> WarmRuntime:
    """The second: smaller chunks. Since the first was replaced, one document was edited, one deleted, and two came."""
    runtime = open_index(retrieval={"mode": "dense"}, chunking={"max_tokens": 16, "overlap_tokens": 0})
    run(runtime)
    write(source, "edited.md", "theta iota kappa alpha lambda my ny xi\n")
    write(source, "omikron.md", "alpha beta alpha beta\n")
    write(source, "rival.md", "gamma delta gamma delta epsilon\n")
    (source / "gone.md").unlink()
    run(runtime)
    return runtime


LASTING = ("edited", "rivalled", "recut", "same")
"""Questions whose labels hold on both sides, so that a verdict is possible."""


def written(folder: Path, only: Sequence[str] = ()) -> Path:
    path = folder / "questions.jsonl"
    chosen = [item for item in QUESTIONS if item["id"] in only or not only]
    path.write_text("".join(json.dumps(item) + "\n" for item in chosen))
    return path


def compared(runtime: WarmRuntime, folder: Path, first: str = "1", second: str = "default#2") -> Impact:
    sides = [retained_generation(runtime, "default", name) for name in (first, second)]
    return compare_generations(runtime, sides[0], sides[1], load_questions(written(folder)))


def moved(found: Impact) -> dict[str, Moved]:
    return {item.id: item for item in found.moved}


def test_two_generations_are_compared_question_by_question_with_reasons(
    after: WarmRuntime, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = compared(after, tmp_path)
    assert ((found.before.state, found.before.frozen), (found.after.state, found.after.frozen)) == (
        ("retired", True), ("live", False)
    )  # fmt: skip
    assert found.documents == {"added": 2, "removed": 1, "another version": 1, "unchanged": 9}
    assert [reason.text for reason in found.settings] == ["chunking: max_tokens 128 → 16"]
    why = {key: [(reason.kind, reason.text) for reason in item.reasons] for key, item in moved(found).items()}
    chunking = ("chunking", "chunking: max_tokens 128 → 16")
    edited = [
        ("document edited", "edited.md was edited"),
        ("competitors", "now above it: omikron.md (added)"),
        chunking,
    ]
    rivalled = [("competitors", "now above it: rival.md (added)"), chunking]
    assert why["edited"][:3] == edited
    assert why["rivalled"] == rivalled
    assert why["arrived"][0] == ("document added", "rival.md was added")
    assert why["gone"][0] == ("document removed", "gone.md was removed")
    assert why["recut"][0] == ("document re-chunked", "long.md was re-chunked")
    assert "same" not in why
    directions = {key: item.direction for key, item in moved(found).items()}
    assert directions == {"edited": -1, "rivalled": -1, "arrived": 1, "gone": -1, "recut": 1, "partly": -1}
    assert (moved(found)["gone"].before.ndcg, moved(found)["gone"].after.ndcg) == (1, 0)
    assert found.counts["competitors"] == {"up": 0, "down": 2}
    assert sum(sum(count.values()) for count in found.counts.values()) == len(found.moved)
    difference = found.differences["ndcg@10"]
    assert (difference.n_valid, found.compared) == (7, 7)
    # The label that no longer holds is left out on both sides, and its document with it.
    partly = moved(found)["partly"]
    assert "omikron.md" in partly.after.above
    assert "edited.md" not in (*partly.before.above, *partly.after.above)
    assert partly.reasons[-1].text == (
        "label edited.md left out: the quote does not occur in the document in default#2"
    )
    (left_out,) = found.not_compared
    assert (left_out.id, left_out.reason) == (
        "requoted", "label edited.md left out: the quote does not occur in the document in default#2."
    )  # fmt: skip
    print_impact(found, everything=True)
    said = capsys.readouterr().out
    assert "default#1 → default#2: of 7 questions" in said
    assert "gone.md was removed" in said
    assert json.loads(json.dumps(found.as_json()))["moved"][0]["reasons"]
    # Labels are resolved against what each holds.
    names = ["edited.md", "long.md", "rival.md"]
    present = corpus_texts(after, "default", load_questions(written(tmp_path)))
    assert held_texts(after, live(after), names) == {name: present[name] for name in names}
    assert held_texts(after, retained_generation(after, "default", "1"), names)["edited.md"] == "alpha alpha beta"
    back = compared(after, tmp_path, "2", "1")
    assert {key: item.direction for key, item in moved(back).items()} == {key: -way for key, way in directions.items()}
    assert not compared(after, tmp_path, "2", "2").moved


def test_a_retired_generation_is_evaluated_with_its_own_documents_and_opens_no_gate(
    open_index: OpenIndex, after: WarmRuntime, tmp_path: Path
) -> None:
    first = retained_generation(after, "default", "default#1")
    assert is_frozen(after, first)
    gate = store.latest_or_none(after, first)
    result, _ = evaluate_generation(after, first, written(tmp_path), command="test")
    # The text that a label quotes has gone since; the document that came since is not its.
    assert {item.id: item.scores["ndcg@10"] for item in result.questions}["requoted"] == 1
    assert [(label.question_id, label.reason) for label in result.invalid_labels] == [
        ("arrived", "the document is not in the collection")
    ]
    result, report = evaluate_generation(after, first, written(tmp_path, LASTING), command="test")
    assert (result.generation, result.verdict, result.previous) == ("default#1", "pass", None)
    assert {"complete", "nothing_extra", "contents", "lexical"}.isdisjoint(check.name for check in result.checks)
    assert report.parent.name.startswith("0001-")
    assert query(after, "SELECT count(*) FROM evaluation_run WHERE report = %s", str(report)) == [(1,)]
    # Neither its own gate, nor the comparison and trend of the live one, know of it.
    assert store.latest_or_none(after, first) == gate
    served, _ = publishing.evaluate_live(after, "default", written(tmp_path, LASTING), command="test")
    assert (served.previous, len(served.history)) == (None, 1)
    again, second = evaluate_generation(after, first, written(tmp_path, LASTING), command="test")
    assert again.previous is not None
    assert again.previous.generation == "default#2"
    assert second.with_name("scores.json").read_bytes() == report.with_name("scores.json").read_bytes()


def test_an_evaluation_aside_can_not_promote_what_the_gate_refused(
    open_index: OpenIndex, before: WarmRuntime, tmp_path: Path
) -> None:
    strict = open_index(
        retrieval={"mode": "dense"},
        chunking={"max_tokens": 16, "overlap_tokens": 0},
        gates={"search_p95_seconds": 1e-9},
        collection={"questions": written(tmp_path, LASTING)},
    )
    assert run(strict).refused is not None
    lenient = open_index(retrieval={"mode": "dense"}, chunking={"max_tokens": 16, "overlap_tokens": 0})
    refused = retained_generation(lenient, "default", "2")
    assert refused.state == "refused"
    result, _ = evaluate_generation(lenient, refused, written(tmp_path), command="test")
    assert "complete" in {check.name for check in result.checks}  # it is built on, so it must equal the ledger
    with pytest.raises(GateRefused):
        publishing.promote_target(lenient, "default", who="test")
    assert live(lenient).name == "default#1"


def test_a_generation_that_can_not_be_evaluated_says_why(
    open_index: OpenIndex, before: WarmRuntime, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=r"no generation 'default#9'.*Retained are default#1 \(live\)"):
        retained_generation(before, "default", "default#9")
    other = open_index(retrieval={"mode": "dense"}, embedder={"model": "another"})
    other.fakes["all-MiniLM-L6-v2"] = FakeEmbedder(version="changed", dimension=64)
    with pytest.raises(RagAssetsError, match=r"default#1 .* can't be searched, because its model 'all-MiniLM-L6-v2'"):
        retained_generation(other, "default", "1")
    query(before, "DELETE FROM index_entry")
    with pytest.raises(RagAssetsError, match="holds no rows"):
        retained_generation(before, "default", "1")


def test_the_next_evaluation_says_what_changed_since(before: WarmRuntime, source: Path, tmp_path: Path) -> None:
    publishing.evaluate_live(before, "default", written(tmp_path, LASTING), command="test")
    write(source, "edited.md", "theta iota kappa alpha lambda my ny xi\n")
    write(source, "rival.md", "gamma delta gamma delta epsilon\n")
    run(before)
    result, report = publishing.evaluate_live(before, "default", written(tmp_path, LASTING), command="test")
    changed = {item.id: item.changed for item in result.questions}
    assert changed["rivalled"] == ("rank 1 → 2, nDCG@10 1.000 → 0.631", "now above it: rival.md")
    assert changed["same"] == ()
    assert "What got worse since generation default#1" in report.read_text(encoding="utf-8")
    forget(before, "default", "rival.md")
    assert not [*report.parent.iterdir()]
    assert query(before, "SELECT id FROM evaluation_run WHERE result -> 'documents' ? 'rival.md'") == []
