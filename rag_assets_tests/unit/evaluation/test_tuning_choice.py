"""What is recommended of some measured points, with points made by hand."""

import tomllib
from dataclasses import replace

from rag_assets.evaluation.golden.questions import Label, Question
from rag_assets.evaluation.metrics.statistics import paired_difference, summarise
from rag_assets.evaluation.tuning.choice import LEAST_QUESTIONS, as_good, not_worse, pareto, recommend, split
from rag_assets.evaluation.tuning.results import Point, Timing, Variant
from rag_assets.evaluation.tuning.snippet import toml_snippet
from rag_assets.evaluation.tuning.variants import all_efs, distinct, fusions, rerankings, widths
from rag_assets.settings import RetrievalSettings, Settings

PRESENT = Variant(RetrievalSettings(), 100)
NAMES = [f"q{number:02d}" for number in range(40)]
Values = dict[str, dict[str, float]]


def questions(count: int) -> list[Question]:
    return [Question(f"q{number}", "?", relevant=(Label("a"),)) for number in range(count)]


def variant(weight: float, **settings: object) -> Variant:
    return Variant(RetrievalSettings(dense_weight=weight, **settings), 100)  # type: ignore[arg-type]


def measured(specification: dict[Variant, tuple[list[float], float]]) -> tuple[list[Point], Values]:
    """Points of variants with their values per question and their p95."""
    values = {v.label: dict(zip(NAMES, given, strict=True)) for v, (given, _) in specification.items()}
    present = values[PRESENT.label]
    points = [
        Point(v, summarise(given), paired_difference(values[v.label], present), Timing(p95 / 2, p95, 40))
        for v, (given, p95) in specification.items()
    ]
    return pareto(points), values


def chosen(specification: dict[Variant, tuple[list[float], float]]) -> Variant:
    points, values = measured(specification)
    present = next(point for point in points if point.variant == PRESENT)
    return recommend(points, present, values, margin=0.02)[0].variant


def wave(mean: float, swing: float = 0.2) -> list[float]:
    """Values around a mean, those of even questions above and those of odd ones below it."""
    return [mean + (swing if number % 2 else -swing) for number in range(40)]


def test_few_questions_are_not_split_and_many_are_halved_by_their_ids_alone() -> None:
    few, none = split(questions(LEAST_QUESTIONS - 1))
    assert (len(few), none) == (LEAST_QUESTIONS - 1, [])
    one, other = split(questions(41))
    assert (len(one), len(other)) == (21, 20)
    assert not {q.id for q in one} & {q.id for q in other}
    assert split(questions(41)[::-1]) == (one, other)


def test_the_pareto_front_leaves_out_what_is_slower_and_no_better() -> None:
    fast, same, slow = variant(0.1), variant(0.2), variant(0.3)
    points, _ = measured(
        {
            PRESENT: (wave(0.5), 30),
            fast: (wave(0.6), 10),
            same: (wave(0.6), 20),
            slow: (wave(0.7), 90),
        }
    )
    assert [(point.variant, point.pareto) for point in points] == [
        (fast, True), (same, False), (PRESENT, False), (slow, True)
    ]  # fmt: skip


def test_the_quickest_within_noise_of_the_best_is_recommended() -> None:
    best, quick, bad = variant(0.1), variant(0.2), variant(0.3)
    noise = [value + (0.02 if number % 3 else -0.041) for number, value in enumerate(wave(0.7))]
    specification = {PRESENT: (wave(0.5), 50), best: (wave(0.7), 40), quick: (noise, 20), bad: (wave(0.4), 5)}
    assert chosen(specification) == quick


def test_what_may_lose_much_is_not_as_good_however_little_is_shown() -> None:
    best, risky = variant(0.1), variant(0.2)
    swinging = [value + (0.2 if number % 2 else -0.21) for number, value in enumerate(wave(0.7))]
    difference = paired_difference(dict(zip(NAMES, swinging, strict=True)), dict(zip(NAMES, wave(0.7), strict=True)))
    assert not_worse(difference, 0.02)
    assert not as_good(difference, 0.02)
    assert as_good(difference, 0.2)
    assert chosen({PRESENT: (wave(0.5), 50), best: (wave(0.7), 40), risky: (swinging, 2)}) == best


def test_a_loss_within_noise_that_is_too_large_to_like_is_not_confirmed() -> None:
    swinging = [value + (0.5 if number % 2 else -0.56) for number, value in enumerate(wave(0.7))]
    difference = paired_difference(dict(zip(NAMES, swinging, strict=True)), dict(zip(NAMES, wave(0.7), strict=True)))
    assert difference.high is not None
    assert difference.high > 0
    assert not not_worse(difference, 0.02)
    assert not_worse(difference, 0.04)


def test_present_settings_that_are_good_enough_stay_unless_much_time_is_saved() -> None:
    other = variant(0.1)
    assert chosen({PRESENT: (wave(0.7), 50), other: (wave(0.7), 42)}) == PRESENT
    assert chosen({PRESENT: (wave(0.7), 50), other: (wave(0.7), 38)}) == other


def test_a_p95_alone_is_no_saving() -> None:
    points, values = measured({PRESENT: (wave(0.7), 50), variant(0.1): (wave(0.7), 20)})
    lucky = [
        replace(point, timing=replace(point.timing, p50=25.0)) if point.variant != PRESENT else point
        for point in points
    ]
    present = next(point for point in lucky if point.variant == PRESENT)
    assert recommend(lucky, present, values, margin=0.02)[0] is present


def test_present_settings_that_find_less_go_even_if_they_are_quickest() -> None:
    better = variant(0.1)
    assert chosen({PRESENT: (wave(0.5), 5), better: (wave(0.7), 50)}) == better


def test_a_beam_that_would_miss_the_floors_of_recall_is_not_recommended() -> None:
    narrow = Variant(RetrievalSettings(candidates=50), 50)
    points, values = measured({PRESENT: (wave(0.6), 100.0), narrow: (wave(0.6), 10.0)})
    present = next(point for point in points if point.variant == PRESENT)
    assert recommend(points, present, values, margin=0.02)[0].variant == narrow
    assert recommend(points, present, values, margin=0.02, narrowest=100)[0] == present


def test_the_stages_try_each_way_once_and_look_up_every_ef_they_need() -> None:
    plain = fusions(PRESENT, lexical=True)
    assert PRESENT in plain
    assert {v.retrieval.mode for v in plain} == {"hybrid", "dense", "lexical"}
    assert {v.retrieval.mode for v in fusions(PRESENT, lexical=False)} == {"dense"}
    wide = widths(plain)
    deep = rerankings([PRESENT, *wide], "late-interaction", PRESENT)
    for stage in (plain, wide, deep):
        assert len({v.label for v in stage}) == len(stage)
    needed = {v.effective_ef for v in [PRESENT, *plain, *wide, *deep]}
    assert needed <= set(all_efs(PRESENT))
    assert distinct([PRESENT, variant(0.5), variant(0.6)]) == [PRESENT, variant(0.6)]


def test_variants_that_differ_in_weights_only_are_one_pipeline() -> None:
    assert variant(0.1).pipeline == variant(0.9).pipeline == variant(0.1, fusion="rrf").pipeline
    assert len({v.pipeline for v in (PRESENT, variant(0.5, candidates=200), variant(0.5, mode="dense"))}) == 3
    # ef_search below the candidates has no effect.
    many = RetrievalSettings(candidates=100)
    assert Variant(many, 40).pipeline == Variant(many, 100).pipeline != Variant(many, 200).pipeline


def test_the_snippet_is_settings_that_can_be_read_and_say_the_same() -> None:
    recommended = Variant(
        RetrievalSettings(dense_weight=0.7, rerank="late-interaction", rerank_depth=20, max_per_document=3), 200
    )
    one = Settings(collections={"handbook": {"source": "/h"}})
    data = tomllib.loads(toml_snippet(one, "handbook", PRESENT, recommended, 6))
    assert RetrievalSettings(**data["retrieval"]) == recommended.retrieval
    assert (data["index"], data["answers"]) == ({"ef_search": 200}, {"top_k": 6})
    two = Settings(collections={"handbook": {"source": "/h"}, "tickets": {"source": "/t"}})
    data = tomllib.loads(toml_snippet(two, "tickets", PRESENT, recommended, 4))
    assert RetrievalSettings(**data["collections"]["tickets"]["retrieval"]) == recommended.retrieval
    assert "answers" not in data
    assert toml_snippet(one, "handbook", PRESENT, PRESENT, one.answers.top_k) == ""


def test_going_back_to_a_default_is_written_out() -> None:
    before = Variant(RetrievalSettings(dense_weight=0.8), 100)
    snippet = toml_snippet(Settings(collections={"a": {"source": "/a"}}), "a", before, PRESENT, None)
    assert tomllib.loads(snippet) == {"retrieval": {"dense_weight": 0.5}}
