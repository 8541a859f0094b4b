"""The latency benchmark of a small index: each phase is there, what was found stands beside it, and nothing is left behind."""

import json
from pathlib import Path
from typing import Any

import pytest

from rag_assets.errors import RagAssetsError
from rag_assets.evaluation import publishing, store
from rag_assets.evaluation.benchmark import benchmark
from rag_assets.evaluation.benchmark.cold import evict
from rag_assets.evaluation.benchmark.generating import time_answers
from rag_assets.evaluation.benchmark.searches import Found, Searches, benchmark_queries
from rag_assets.evaluation.latency import FoundQuality
from rag_assets.evaluation.result_json import from_json, to_json
from rag_assets_tests.driving import OpenIndex, WarmRuntime, corpus, live, query, run
from rag_assets_tests.unit.generation.fakes import chat_server, write_models

QUICK = {"concurrencies": [2], "rates": [20, 40], "seconds": 0.2, "warm_up_seconds": 0, "generations": 0}
GOOD = [
    {"id": "a", "question": "document 3 topic 21", "relevant": [{"document": "d03.md"}]},
    {"id": "b", "question": "document 5", "relevant": [{"document": "d05.md"}], "filter": {"document": ["d05.md", "d06.md"]}},
]  # fmt: skip
QUESTIONS = [
    {"id": "d", "question": "document 7", "relevant": [{"document": "d07.md"}], "filter": {"nobody": "knows"}},
    *GOOD,
    {"id": "c", "question": "document 6", "relevant": [{"document": "gone.md"}]},
]
"""The first, which every phase asks first, can't be searched; the label of the last is invalid."""
STAGES = {"embedding", "dense", "lexical", "fuse", "retrieval", "search"}


@pytest.fixture
def filled(open_index: OpenIndex, source: Path, tmp_path: Path) -> WarmRuntime:
    """Eight documents; four questions, of which one has an invalid label and one can't be searched."""
    file = tmp_path / "questions.jsonl"
    corpus(source)
    runtime = open_index(collection={"questions": file}, benchmark=QUICK, sync={"shards": 1})
    # These two alone are good enough for an index to go live.
    file.write_text("".join(json.dumps(item) + "\n" for item in GOOD), encoding="utf-8")
    run(runtime)
    file.write_text("".join(json.dumps(item) + "\n" for item in QUESTIONS), encoding="utf-8")
    return runtime


def under(runtime: WarmRuntime, section: str, **changes: Any) -> WarmRuntime:
    """The same runtime under other settings of a section."""
    changed = getattr(runtime.settings, section).model_copy(update=changes)
    runtime.settings = runtime.settings.model_copy(update={section: changed})
    return runtime


def fake_buffercache(runtime: WarmRuntime) -> None:
    """Stands for the extension: notes what it is told to evict."""
    query(runtime, "CREATE TABLE public.evicted (relation text)")
    query(
        runtime,
        "CREATE FUNCTION public.pg_buffercache_evict_relation(regclass) RETURNS void LANGUAGE sql"
        " AS 'INSERT INTO public.evicted VALUES ($1::text)'",
    )


def test_every_phase_is_measured_with_what_was_found_beside_it(filled: WarmRuntime) -> None:
    found = publishing.benchmark_target(filled, "default").benchmark
    assert found is not None
    assert (found.queries, found.query_source, found.pool_size) == (4, "golden questions", 10)
    assert found.stages.keys() == STAGES
    assert found.cold is not None
    assert found.cold.caches == "connection"
    assert found.cold.stages.keys() == STAGES
    (closed,) = found.closed
    assert (closed.concurrency, [level.rate for level in found.open]) == (2, [20, 40])
    for level in (closed, *found.open):
        # A question with a filter that nobody knows is no fast answer.
        assert level.errors > 0
        assert "nobody" in (level.error or "")
        assert level.latency is not None
        assert level.quality.recall_at_10 == level.quality.hit_rate_at_10 == 1
    for level in found.open:
        assert level.latency is not None
        assert level.service is not None
        assert level.latency.p50 >= level.service.p50
        assert level.requests + level.errors + level.unstarted == round(0.2 * level.rate)
    assert found.errors.keys() == {"stages", "cold"}
    assert found.answers is None
    _, kept = store.latest(filled, live(filled))
    assert kept.benchmark is not None
    assert to_json(from_json(json.loads(json.dumps(to_json(kept))))) == to_json(kept)

    rates = benchmark(filled, live(filled), filled.settings.benchmark.model_copy(update={"rates": "auto"}))
    highest = max(level.throughput for level in rates.closed)
    assert [level.rate for level in rates.open] == pytest.approx([0.5 * highest, 0.8 * highest], rel=0.01)


def test_the_index_is_evicted_where_the_database_can(filled: WarmRuntime) -> None:
    generation = live(filled)
    assert evict(filled, generation) is False
    fake_buffercache(filled)
    assert evict(filled, generation) is True
    names = {row[0] for row in query(filled, "SELECT relation FROM public.evicted")}
    for name in (
        f"index_entry_g{generation.id}",
        f"index_entry_g{generation.id}_hnsw",
        f"lexical_posting_g{generation.id}",
    ):
        assert name in names
    query(
        filled,
        "CREATE OR REPLACE FUNCTION public.pg_buffercache_evict_relation(regclass) RETURNS void LANGUAGE plpgsql"
        " AS 'BEGIN RAISE insufficient_privilege; END'",
    )
    assert evict(filled, generation) is False


def test_what_was_found_is_judged_by_labels_and_by_exact_search(filled: WarmRuntime) -> None:
    queries, _ = benchmark_queries(filled, live(filled))
    searches = Searches(filled, live(filled), queries)
    whole = searches.ask(1)
    assert searches.quality([whole]).recall_at_10 is None
    searches.look_up_exactly(60)
    half = Found(1, whole.chunk_ids[: len(whole.chunk_ids) // 2], ("d01.md", "d03.md"), {})
    quality = searches.quality([half, Found(3, (), (), {})])
    assert quality == FoundQuality(pytest.approx(0.25), 2, 1.0, pytest.approx(0.63093, abs=1e-4), 1)


def test_without_golden_questions_the_chunks_own_sentences_are_asked_for(
    open_index: OpenIndex, source: Path, tmp_path: Path
) -> None:
    corpus(source)
    runtime = open_index(sync={"shards": 1}, benchmark=QUICK)
    run(runtime)
    queries, kind = benchmark_queries(runtime, live(runtime))
    assert kind == "first sentences of chunks"
    assert queries == benchmark_queries(runtime, live(runtime))[0]
    assert len(queries) == 8
    with chat_server() as server:
        models = write_models(
            tmp_path, server.address, "router_settings: {fallbacks: [{team: [offline-extractive]}]}\n"
        )
        server.fails(500, "out of order")
        under(runtime, "answers", models=models, model="team")
        found = benchmark(runtime, live(runtime), runtime.settings.benchmark.model_copy(update={"generations": 2}))
        assert len(server.requests) == 3, "one to warm up, and two that count"
    assert found.quality.hit_rate_at_10 is None
    assert found.quality.recall_at_10 == 1
    speed = found.answers
    assert speed is not None
    # The fallback would have answered at once; its time is not the model's.
    assert (speed.n_total, speed.n_failed, speed.stages, speed.tokens_per_second) == (2, 2, {}, None)
    assert "out of order" in (speed.error or "")
    under(runtime, "answers", models=None, model="offline-extractive")
    answered = time_answers(runtime, live(runtime), queries, 1)
    assert answered is not None
    assert (answered.model, answered.n_total, answered.n_failed) == ("offline-extractive", 1, 0)
    assert answered.stages.keys() == {"first_token", "generation", "total"}
    assert answered.stages["first_token"].p50 <= answered.stages["generation"].p50 < answered.stages["total"].p50
    assert answered.tokens_per_second
    query(runtime, f"DELETE FROM index_entry_g{live(runtime).id}")
    with pytest.raises(RagAssetsError, match="holds no text"):
        benchmark(runtime, live(runtime))
