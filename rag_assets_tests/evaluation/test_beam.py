"""The beam of a generation: as wide as its recall needs, measured before anything else is, and in force wherever it is searched."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rag_assets.cli.documents import _print_collection
from rag_assets.database.generations import Generation, all_generations
from rag_assets.evaluation import publishing, runner, store
from rag_assets.evaluation.beam import beams
from rag_assets.evaluation.golden.questions import Question
from rag_assets.evaluation.metrics.ann_recall import ann_recall
from rag_assets.evaluation.results import EvaluationResult
from rag_assets.evaluation.tuning.results import Variant
from rag_assets.evaluation.tuning.sweep import _Sweep
from rag_assets.evaluation.tuning.timing import searching
from rag_assets.indexing.status import describe, generation_rows
from rag_assets.retrieval.search import search
from rag_assets.settings import RetrievalSettings
from rag_assets.stores.postgres import PostgresSearcher, PostgresStore
from rag_assets.stores.values import Connection, HybridQuery, Near, Sides, Vector
from rag_assets_tests.driving import OpenIndex, WarmRuntime, live, query, run, write

CHUNKING = {"max_tokens": 16, "overlap_tokens": 0, "contextual": False}
POOR = {"m": 4, "ef_construction": 8, "ef_search": 10}
"""A graph that finds some 80 % of 240 rows' ten nearest with the beam of its setting, and all with 240."""


class WatchedStore(PostgresStore):
    """PostgreSQL, with a graph that gives a tenth of the answer unless it is searched with at least ``needs``, and a note of who asks."""

    def __init__(self, needs: int = 0, *, fixed: bool = False) -> None:
        super().__init__()
        self.needs = needs
        self.beam_is_fixed = fixed
        self.beams: list[int] = []
        """Of every question to the graph, in order."""
        self.exact: list[bytes] = []
        """Every vector that was compared with all rows."""

    def searcher(self, connection: Connection, generation: Generation) -> PostgresSearcher:
        return WatchedSearcher(self, connection, generation)

    @property
    def distinct_beams(self) -> list[int]:
        """Beams in the order they were first used, since this was last asked."""
        found = list(dict.fromkeys(self.beams))
        self.beams.clear()
        return found


class WatchedSearcher(PostgresSearcher):
    """What :class:`WatchedStore` lends."""

    def __init__(self, store: WatchedStore, connection: Connection, generation: Generation) -> None:
        super().__init__(connection, generation)
        self._store = store

    def nearest(
        self, vector: Vector | None, k: int, *, ef_search: int = 100, exact: bool = False, **others: Any
    ) -> Near:
        near = super().nearest(vector, k, ef_search=ef_search, exact=exact, **others)
        if exact:
            assert vector is not None
            self._store.exact.append(vector.tobytes())
            return near
        self._store.beams.append(ef_search)
        return near if ef_search >= self._store.needs else replace(near, found=dict(list(near.found.items())[:1]))

    def both(self, asked: HybridQuery) -> Sides:
        self._store.beams.append(asked.ef_search)
        return super().both(asked)


def watched(runtime: WarmRuntime, needs: int = 0, *, fixed: bool = False) -> WatchedStore:
    """The runtime's store from here on."""
    made = WatchedStore(needs, fixed=fixed)
    runtime._stores["pgvector"] = made
    return made


def kept(runtime: WarmRuntime) -> list[tuple[str, int | None]]:
    """(state, beam) of every generation."""
    return query(runtime, "SELECT state, beam FROM generation ORDER BY sequence")  # type: ignore[return-value]


def ann_texts(result: EvaluationResult) -> list[str]:
    return [check.text for check in result.checks if check.name.startswith("ann_recall")]


def test_a_poor_graph_goes_live_with_the_beam_it_needs_and_narrows_when_less_is_asked_of_it(
    open_index: OpenIndex, source: Path, tmp_path: Path
) -> None:
    for name in range(3):
        sections = (f"## s{name}x{number}\n\nw{name}x{number} v{name}x{number} c{number % 30}" for number in range(80))
        write(source, f"d{name}.md", "\n\n".join(sections) + "\n")
    index = open_index(chunking=CHUNKING, index=POOR, sync={"shards": 1}, gates={"ann_recall_mean": 0.99})
    watching = watched(index)
    assert run(index).generation["promoted"]
    (beam,) = [beam for _, beam in kept(index)]
    assert beam in (40, 80, 160, 320)
    assert live(index).beam == beam
    # Narrow to wide; the exact answers are of one pass over the rows, not of 200 for each beam.
    assert watching.distinct_beams == [width for width in beams(10) if width <= beam]
    assert watching.exact == []
    _, result = store.latest(index, live(index))
    assert f", with ef_search {beam}, which was needed; the setting is 10; the floor is 99%." in ann_texts(result)[0]
    assert result.fingerprint["ef_search"] == beam
    assert [row["ef_search"] for row in generation_rows(index, "default")] == [beam]
    for mode in ("dense", "hybrid"):
        assert search(index, "w1x7 v1x7", collection="default", retrieval=RetrievalSettings(mode=mode)).hits
    assert watching.distinct_beams == [beam]
    # The same index under lower floors.
    lenient = open_index(
        chunking=CHUNKING,
        index=POOR,
        sync={"shards": 1},
        gates={"ann_recall_mean": 0.3, "ann_recall_p05": 0},
    )
    watching = watched(lenient)
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps({"id": "q", "question": "w1x7 v1x7", "relevant": [{"document": "d1.md"}]}) + "\n")
    runner.evaluate_retrieval(lenient, live(lenient), other, command="test")
    # Questions of anybody's choice narrow nothing.
    assert (kept(lenient), watching.distinct_beams) == ([("live", beam)], [beam])
    narrowed = publishing.evaluate_target(lenient, "default")
    assert (kept(lenient), watching.distinct_beams, narrowed.fingerprint["ef_search"]) == ([("live", None)], [10], 10)
    assert "ef_search" not in generation_rows(lenient, "default")[0]
    search(lenient, "w1x7 v1x7", collection="default")
    assert watching.distinct_beams == [10]


@pytest.fixture
def opened(open_index: OpenIndex, source: Path, tmp_path: Path) -> Callable[..., WarmRuntime]:
    """Open a small index, judged by one question."""
    for number in range(15):
        write(source, f"d{number:02d}.md", f"word{number} and other{number} words\n")
    questions = tmp_path / "questions.jsonl"
    questions.write_text(
        json.dumps({"id": "q", "question": "word3", "answer": "other3", "relevant": [{"document": "d03.md"}]}) + "\n"
    )

    def open_(**settings: Any) -> WarmRuntime:
        defaults = {"collection": {"questions": questions}, "sync": {"shards": 1}, "evaluation": {"similarity": False}}
        return open_index(**{**defaults, **settings})

    return open_


def test_what_no_beam_makes_find_enough_is_refused_with_the_cure(opened: Callable[..., WarmRuntime]) -> None:
    index = opened()
    watching = watched(index, needs=1001)
    report = run(index)
    assert report.refused is not None
    assert report.refused.count("Beams up to ef_search 1000 were tried, and none meets the floors.") == 2
    assert "Raise index.m and index.ef_construction, then sync." in report.refused
    # The setting is in force, in the search of the question as well.
    assert (kept(index), watching.beams[-1]) == ([("refused", None)], 100)
    assert watching.distinct_beams == [100, 200, 400, 800, 1000]
    # With a graph that is better it passes, and whatever is asked from then on has the beam: questions, answers, benchmark.
    watching.needs = 150
    assert run(index).generation["promoted"]
    assert (kept(index), watching.distinct_beams) == ([("live", 200)], [100, 200])
    # An evaluation is of the beam that is kept from its first question to its last answer, and so is the benchmark.
    watching.needs = 300
    result, _ = publishing.evaluate_live(
        index, "default", index.settings.collection("default").questions, command="test"
    )
    assert (result.verdict, kept(index), watching.beams[-1]) == ("pass", [("live", 400)], 400)
    measured = ann_recall(index, live(index), [index.embedder.embed_queries(["word3"])[0]], seconds=9)
    assert measured is not None
    assert (measured.mean, measured.ef_search, measured.setting) == (1, 400, 100)
    # One that has fallen below its floors at any beam keeps what it has: less would answer worse still.
    watching.needs = 1001
    assert publishing.evaluate_target(index, "default").verdict == "fail"
    assert kept(index) == [("live", 400)]


def test_an_evaluation_aside_measures_with_the_beam_in_force_and_changes_nothing(
    opened: Callable[..., WarmRuntime], capsys: pytest.CaptureFixture[str]
) -> None:
    first = opened()
    watched(first, needs=150)
    run(first)
    second = opened(index={"m": 8})
    watching = watched(second)
    run(second)
    assert kept(second) == [("retired", 200), ("live", None)]
    with second.database.transaction() as connection:
        retired = all_generations(connection, "default")[-1]
    for needs, mean in ((0, 1), (900, 0.1)):
        watching.needs = needs
        watching.beams.clear()
        result, _ = publishing.evaluate_generation(second, retired, None, command="test")
        assert result.ann_recall is not None
        assert (result.ann_recall.mean, result.ann_recall.ef_search) == (pytest.approx(mean), 200)
        assert (kept(second), watching.distinct_beams) == ([("retired", 200), ("live", None)], [200])
    # Nor does one under a wider setting, for which the beam makes no difference.
    wide = opened(index={"m": 8, "ef_search": 300})
    publishing.evaluate_generation(wide, retired, None, command="test")
    assert kept(wide) == [("retired", 200), ("live", None)]
    # In `status` people see both.
    (collection,) = describe(second, "default")["collections"]
    assert [row["ef_search"] for row in collection["generations"]] == [100, 200]
    _print_collection(collection)
    assert "ef_search" in capsys.readouterr().out


def test_a_tuning_compares_with_the_beam_in_force_and_holds_to_narrower_ones(
    opened: Callable[..., WarmRuntime],
) -> None:
    index = opened()
    watching = watched(index, needs=150)
    run(index)
    watching.needs = 0
    sweep = _Sweep(index, live(index))
    assert (sweep.present.ef_search, sweep.narrowest) == (200, 200)
    watching.beams.clear()
    for ef in (50, 400):
        searching(index, live(index), Question("q", "word3"), Variant(RetrievalSettings(), ef))
    assert watching.distinct_beams == [50, 400]


def test_a_store_whose_beam_is_part_of_its_index_is_measured_once(opened: Callable[..., WarmRuntime]) -> None:
    index = opened()
    watching = watched(index, needs=150, fixed=True)
    report = run(index)
    assert report.refused is not None
    assert "Raise index.ef_search (or index.m and index.ef_construction), then sync." in report.refused
    assert (kept(index), watching.distinct_beams) == ([("refused", None)], [100])
