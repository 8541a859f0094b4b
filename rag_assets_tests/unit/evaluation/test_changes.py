"""Why a question moved, told from what two evaluations saw of it."""

from dataclasses import replace
from pathlib import Path

import pytest

from rag_assets.evaluation.golden.questions import Label
from rag_assets.evaluation.impact.changes import (
    Fate,
    Reason,
    Seen,
    direction,
    fate,
    movement,
    own_reasons,
    reasons,
    seen,
    settings_changed,
    since,
)
from rag_assets.evaluation.impact.holdings import DocumentState
from rag_assets.evaluation.provenance import models_fingerprint
from rag_assets.evaluation.report.page import write_report
from rag_assets.evaluation.result_json import from_json, scores_json, to_json
from rag_assets.evaluation.results import EvaluationResult, QuestionResult, RetrievedPassage
from rag_assets.settings import AnswerSettings

from .fixtures import realistic_result

STATE = DocumentState(text="t", places="p", chunks="c", count=2)
FIRST = seen(["a", "x"], ["a"], 1.0, None)
SECOND = seen(["x", "a"], ["a"], 0.631, None)


@pytest.mark.parametrize(
    ("before", "after", "same_chunker", "became"),
    [
        (None, STATE, True, "added"),
        (STATE, None, True, "removed"),
        (STATE, replace(STATE, text="other", chunks="other"), True, "edited"),
        (STATE, replace(STATE, places="other", chunks="other", count=5), True, "re-chunked"),
        (STATE, replace(STATE, chunks="other"), True, "retitled"),
        (STATE, replace(STATE, chunks="other"), False, "re-chunked"),
        (STATE, STATE, False, "unchanged"),
    ],
)
def test_what_became_of_a_document(
    before: DocumentState | None, after: DocumentState | None, same_chunker: bool, became: str
) -> None:
    assert fate(before, after, same_chunker=same_chunker) == became


def test_what_stands_above_ends_with_the_last_relevant_document_that_was_found() -> None:
    assert seen(["x", "a", "y", "b", "z"], ["a", "b"], 0.5, None) == Seen(0.5, None, 2, ("x", "y"))
    assert seen(["x", "a", "y"], ["a", "b"], 0.5, None).above == ("x", "y")  # b may stand anywhere below
    assert seen([f"x{n}" for n in range(12)] + ["a"], ["a"], 0.0, None) == Seen(
        0.0, None, None, tuple(f"x{n}" for n in range(10))
    )
    assert seen(["x"], ["a"], 0.3, None, rank=7).rank == 7  # the ranking was cut off, the rank is known


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (SECOND, FIRST, 1),
        (FIRST, SECOND, -1),
        (FIRST, FIRST, 0),
        (FIRST, replace(FIRST, ndcg=1 - 1e-7), 0),
        (replace(FIRST, evidence=0.5), replace(FIRST, evidence=0.2), -1),
        (replace(FIRST, evidence=1.0), replace(FIRST, evidence=0.99), 0),
        (replace(FIRST, ndcg=0.0, rank=None), replace(FIRST, ndcg=0.0, rank=9), 1),
        # A better nDCG weighs more than a first relevant document further down.
        (replace(FIRST, ndcg=0.5, rank=1), replace(FIRST, ndcg=0.6, rank=2), 1),
    ],
)
def test_direction(before: Seen, after: Seen, expected: int) -> None:
    assert direction(before, after) == expected


def test_movement_says_what_moved() -> None:
    assert movement(FIRST, SECOND) == "rank 1 → 2, nDCG@10 1.000 → 0.631"
    lost = replace(FIRST, rank=None, ndcg=0.0, evidence=0.0)
    assert movement(replace(FIRST, evidence=1.0), lost) == (
        "rank 1 → beyond 10, nDCG@10 1.000 → 0.000, evidence 1.000 → 0.000"
    )


def fates(**known: Fate) -> dict[str, Fate]:
    return dict(known)


@pytest.mark.parametrize(
    ("before", "after", "known", "expected"),
    [
        (FIRST, SECOND, fates(a="edited", x="unchanged"), [Reason("document edited", "a was edited")]),
        (SECOND, FIRST, fates(a="re-chunked"), [Reason("document re-chunked", "a was re-chunked")]),
        (FIRST, SECOND, fates(x="added"), [Reason("competitors", "now above it: x (added)")]),
        (FIRST, SECOND, fates(x="unchanged"), [Reason("competitors", "now above it: x (unchanged)")]),
        (FIRST, SECOND, {}, [Reason("competitors", "now above it: x")]),
        (SECOND, FIRST, fates(x="removed"), [Reason("competitors", "no longer above it: x (removed)")]),
        # Both what it answers from and what stands above it are new.
        (
            FIRST,
            SECOND,
            fates(a="edited", x="added"),
            [Reason("document edited", "a was edited"), Reason("competitors", "now above it: x (added)")],
        ),
    ],
)
def test_reasons_name_the_documents_own_change_before_its_competitors(
    before: Seen, after: Seen, known: dict[str, Fate], expected: list[Reason]
) -> None:
    assert list(reasons(before, after, ["a"], known.get, ())) == expected


def test_a_change_of_settings_explains_what_is_cut_anew_with_it() -> None:
    model = Reason("model", "model: a → b")
    assert reasons(FIRST, SECOND, ["a"], fates(x="re-chunked").get, [model]) == (model,)
    with_new = reasons(FIRST, SECOND, ["a"], fates(x="added").get, [model])
    assert [reason.kind for reason in with_new] == ["competitors", "model"]


def test_a_question_that_nothing_explains_is_said_to_be_so() -> None:
    moved = replace(FIRST, ndcg=0.9)
    (reason,) = reasons(FIRST, moved, ["a"], fates(a="unchanged").get, ())
    assert reason.kind == "unexplained"


def test_many_competitors_are_counted() -> None:
    after = seen([*"uvwxy", "a"], ["a"], 0.4, None)
    (reason,) = reasons(FIRST, after, ["a"], {"u": "unchanged", **dict.fromkeys("vwy", "added")}.get, ())
    assert reason.text == "now above it: v (added), w (added), y (added) and 2 more"


def test_settings_that_differ_are_named_by_what_they_decide() -> None:
    made = {
        "chunker": "c1", "embedder": "e1", "index": "i1",
        "configuration": {
            "chunking": {"max_tokens": 256}, "embedder": {"model": "a"}, "index": {"m": 16}, "lexical": {"language": "auto"},
        },
        "ef_search": 100, "retrieval": {"mode": "hybrid"}, "bm25": {"k1": 1.5},
    }  # fmt: skip
    other = {
        "chunker": "c2", "embedder": "e2", "index": "i2",
        "configuration": {
            "chunking": {"max_tokens": 128}, "embedder": {"model": "b"}, "index": {"m": 8}, "lexical": {"language": "none"},
        },
        "ef_search": 40, "retrieval": {"mode": "dense"}, "bm25": {"k1": 1.5},
    }  # fmt: skip
    assert settings_changed(made, made) == ()
    assert [(reason.kind, reason.text) for reason in settings_changed(made, other)] == [
        ("model", "model: model a → b"),
        ("chunking", "chunking: max_tokens 256 → 128"),
        ("lexical index", "lexical index: language auto → none"),
        ("HNSW index", "HNSW index: m 16 → 8"),
        ("query settings", "query settings: ef_search 100 → 40, retrieval.mode hybrid → dense"),
    ]
    files = settings_changed(made, {**made, "embedder": "e2"})
    assert [reason.text for reason in files] == ["model: the model's files or its backend are others"]


def test_own_reasons_are_of_documents_that_changed() -> None:
    found = own_reasons(["a", "b", "a", "c"], fates(a="retitled", b="unchanged").get)
    assert found == (Reason("title or headings edited", "a: its title or headings were edited"),)


def answered(ranking: str, *, ndcg: float, mrr: float) -> QuestionResult:
    hits = tuple(RetrievedPassage(n, name, f"{name}-{n}", name, 0.5, name == "a") for n, name in enumerate(ranking, 1))
    return QuestionResult("q1", "?", relevant=(Label("a"),), scores={"ndcg@10": ndcg, "mrr@10": mrr}, retrieved=hits)


def evaluated(item: QuestionResult, **states: DocumentState) -> EvaluationResult:
    return replace(realistic_result(4), questions=(item,), documents=states, invalid_labels=())


def test_since_the_last_evaluation_the_document_was_edited() -> None:
    before = evaluated(answered("ax", ndcg=1.0, mrr=1.0), a=STATE, x=STATE)
    after = evaluated(answered("xa", ndcg=0.631, mrr=0.5), a=replace(STATE, text="new"), x=STATE)
    (item,) = since(after, before)
    assert item.changed == ("rank 1 → 2, nDCG@10 1.000 → 0.631", "a was edited")
    assert item.ndcg_before == 1.0


def test_a_competitor_that_was_not_shown_before_is_named_without_its_fate() -> None:
    before = evaluated(answered("ay", ndcg=1.0, mrr=1.0), a=STATE, y=STATE)
    after = evaluated(answered("xa", ndcg=0.631, mrr=0.5), a=STATE, x=STATE)
    assert since(after, before)[0].changed[1:] == ("now above it: x",)


def test_a_label_that_no_longer_holds_is_named_and_its_document_is_no_rival() -> None:
    both = replace(answered("xa", ndcg=1.0, mrr=1.0), relevant=(Label("a"), Label("x")))
    after = evaluated(answered("xa", ndcg=0.631, mrr=0.5), a=STATE, x=STATE)
    assert since(after, evaluated(both, a=STATE, x=STATE))[0].changed[1:] == ("its label x no longer holds",)


def test_an_evaluation_of_an_earlier_release_says_nothing_of_documents() -> None:
    before = evaluated(answered("ax", ndcg=1.0, mrr=1.0))
    after = evaluated(answered("xa", ndcg=0.631, mrr=0.5), a=STATE, x=STATE)
    assert since(after, before)[0].changed[1:] == ("now above it: x",)


def test_a_question_that_did_not_move_is_left_alone_unless_its_document_changed() -> None:
    bad, good = answered("xa", ndcg=0.631, mrr=0.5), answered("ax", ndcg=1.0, mrr=1.0)
    edited = replace(STATE, text="new")
    assert since(evaluated(bad, a=STATE), evaluated(bad, a=STATE))[0].changed == ()
    assert since(evaluated(good, a=edited), evaluated(good, a=STATE))[0].changed == ()
    assert since(evaluated(bad, a=edited), evaluated(bad, a=STATE))[0].changed == (
        "rank 2 as before, nDCG@10 0.631 as before", "a was edited"
    )  # fmt: skip


def test_the_report_lists_what_got_worse_and_why(tmp_path: Path) -> None:
    lost = replace(
        realistic_result(8).questions[0],
        id="lost-one",
        scores={"ndcg@10": 0.4},
        changed=("rank 1 → 3", "x.md was edited & <b>"),
        ndcg_before=1.0,
    )
    gained = replace(lost, id="gained-one", changed=("rank 5 → 3",), ndcg_before=0.2)
    result = replace(realistic_result(8), questions=(lost, gained))
    page = write_report(result, tmp_path).read_text(encoding="utf-8")
    listed = page.split("What got worse since generation handbook-0006")[1].split("</ul>")[0]
    assert "lost-one" in listed
    assert "gained-one" not in listed
    assert "x.md was edited &amp; &lt;b&gt;" in listed
    worst = page.split("Where it fails")[1]
    assert worst.count("What changed since generation handbook-0006") == 2
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "## What got worse since generation" in text
    assert "rank 5 → 3" in text.split("## Where it fails")[1]
    write_report(replace(result, questions=(gained,)), tmp_path)
    assert "What got worse" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_scores_have_nothing_of_the_clock_nor_of_earlier_evaluations() -> None:
    result = replace(realistic_result(8), documents={"a.md": STATE})
    other = replace(
        result,
        generation="handbook-0009",
        fingerprint={**result.fingerprint, "generation": "handbook-0009"},
        created_at="2027-01-01T00:00:00+00:00",
        command="another",
        verdict="fail",
        reasons=("p95 is 3 s",),
        checks=(),
        previous=None,
        history=(),
        latency={},
        aside=True,
        questions=tuple(
            replace(item, milliseconds={"search": 1.0}, changed=("rank 1 → 2",), ndcg_before=1.0)
            for item in result.questions
        ),
    )
    assert scores_json(result) == scores_json(other)
    assert scores_json(result)["documents"]["a.md"]["text"] == "t"
    worse = replace(result.questions[0], scores={"ndcg@10": 0.123})
    assert scores_json(replace(result, questions=(worse, *result.questions[1:]))) != scores_json(result)
    assert from_json(to_json(other)).aside


def test_the_models_parameters_count_and_their_keys_do_not(tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"

    def listed(temperature: float, key: str) -> str | None:
        parameters = f"{{model: openai/x, temperature: {temperature}, max_tokens: 9, api_key: {key}}}"
        file.write_text(f"model_list: [{{model_name: m, litellm_params: {parameters}}}]")
        return models_fingerprint(AnswerSettings(models=file))

    assert listed(0.5, "one") == listed(0.5, "two")
    assert listed(0.5, "one") != listed(0.6, "one")
    assert models_fingerprint(AnswerSettings()) is None
    file.write_text("[")
    assert models_fingerprint(AnswerSettings(models=file)) is None
