"""A generation goes live only in the place of the one it was compared with, and readers follow it at once."""

from pathlib import Path
from typing import Any

import pytest

from rag_assets.database import generations
from rag_assets.database.generations import Generation
from rag_assets.errors import GateRefused, Superseded
from rag_assets.evaluation import publishing
from rag_assets.indexing import chunks, embeddings, hnsw_index, index_entries, raw_documents
from rag_assets.indexing.planning import make_plan
from rag_assets.indexing.promotion import rollback
from rag_assets.models import Vectors
from rag_assets.retrieval.search import search
from rag_assets_tests.driving import (
    InterruptedDatabase,
    OpenIndex,
    WarmRuntime,
    corpus,
    live,
    live_rows,
    query,
    run,
    wanted_rows,
    write,
)
from rag_assets_tests.fakes import DirectRunner
from rag_assets_tests.indexing.test_following import question_file, states


def built(runtime: WarmRuntime) -> Generation:
    """The target generation, evaluated and passed, as a run leaves it that is killed before it promotes."""
    runtime.plans["default"] = make_plan(runtime, "default").plan
    for shard in range(runtime.settings.sync.shards):
        DirectRunner(runtime).update_shard("default", shard)
    runtime.plans.clear()
    hnsw_index.materialize(runtime, "default")
    assert publishing.evaluate_target(runtime, "default").verdict == "pass"
    target = runtime.target("default")
    assert target is not None
    assert target.state == "ready"
    return target


def promotions(runtime: WarmRuntime) -> list[tuple[Any, ...]]:
    return query(runtime, "SELECT from_generation, to_generation FROM promotion ORDER BY id")


@pytest.mark.parametrize("questions", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_a_generation_is_not_promoted_over_one_it_was_not_compared_with(
    open_index: OpenIndex, source: Path, tmp_path: Path, questions: bool, first: bool
) -> None:
    """``first``: nothing was live when it was judged."""
    collection = {"questions": question_file(tmp_path)} if questions else {}
    corpus(source)
    if not first:
        run(open_index(collection=collection, retrieval={"mode": "dense"}))
    slow = open_index(embedder={"model": "slow"}, collection=collection, retrieval={"mode": "dense"})
    built(slow)
    fast = open_index(embedder={"model": "fast"}, collection=collection, retrieval={"mode": "dense"})
    assert run(fast).generation["promoted"]
    before, said = states(slow), promotions(slow)
    with pytest.raises(GateRefused, match="Materialize `retrieval_evaluation` again"):
        publishing.promote_target(slow, "default", who="test")
    assert states(slow) == before
    assert promotions(slow) == said
    assert live(slow).key == fast.key("default")
    # Judged again, against what is live now, it may.
    assert publishing.evaluate_target(slow, "default").verdict == "pass"
    assert publishing.promote_target(slow, "default", who="test").changed
    assert live(slow).key == slow.key("default")


def test_a_promotion_that_is_overtaken_at_the_last_moment_is_refused(open_index: OpenIndex, source: Path) -> None:
    corpus(source)
    run(open_index())
    fast, slow = open_index(embedder={"model": "fast"}), open_index(embedder={"model": "slow"})
    overtaking = built(fast)
    built(slow)
    inner = slow.database
    refused = 0

    def overtake() -> None:
        with inner.transaction() as connection:
            generations.promote(connection, overtaking, who="fast", reason="overtakes")

    for at in range(1, 30):
        slow.__dict__["database"] = InterruptedDatabase(inner, at, overtake)
        try:
            publishing.promote_target(slow, "default", who="slow")
        except GateRefused:
            refused += 1
            assert live(fast).id == overtaking.id
            assert states(fast)["default#3"] == "ready"
            rollback(fast, "default", who="test")
            query(fast, "UPDATE generation SET state = 'ready' WHERE id = %s", overtaking.id)
            continue
        break
    # Before each transaction up to the flip itself, which was then the next one.
    assert refused >= 4
    assert promotions(fast)[-1][1] != overtaking.id or live(fast).id == overtaking.id


def test_the_flip_itself_looks_at_what_it_replaces(open_index: OpenIndex, source: Path) -> None:
    corpus(source)
    run(open_index())
    index = open_index(embedder={"model": "2"})
    target, first = built(index), live(index)
    for wrong in (None, target.id, first.id + 100):
        with pytest.raises(GateRefused), index.database.transaction() as connection:
            generations.promote(connection, target, who="test", reason="", replacing=wrong)
    assert live(index).id == first.id
    with index.database.transaction() as connection:
        generations.promote(connection, target, who="test", reason="", replacing=first.id)
    assert live(index).id == target.id


def test_a_search_follows_a_promotion_to_another_model_that_happens_while_its_question_is_embedded(
    open_index: OpenIndex, source: Path
) -> None:
    corpus(source)
    run(open_index(embedder={"model": "old"}))
    index = open_index(embedder={"model": "new"})
    target = built(index)
    model = index._embedder(index.settings.embedder.model_copy(update={"model": "old"}))
    index.fakes["old"] = model
    embed, asked = model.embed_queries, []

    def promoted_meanwhile(texts: Any) -> Vectors:
        asked.extend(texts)
        with index.database.transaction() as connection:
            generations.promote(connection, target, who="test", reason="meanwhile")
        return embed(texts)

    model.embed_queries = promoted_meanwhile  # type: ignore[method-assign]
    found = search(index, "topic 9", collection="default", k=3)
    assert asked == ["topic 9"]
    assert found.generation.id == target.id
    wanted = search(index, "topic 9", collection="default", k=3, generation=target, exact=True)
    assert [(hit.chunk_id, hit.scores) for hit in found.hits] == [(hit.chunk_id, hit.scores) for hit in wanted.hits]


def test_a_search_of_a_named_generation_stays_with_it(open_index: OpenIndex, source: Path) -> None:
    corpus(source)
    run(open_index(embedder={"model": "old"}))
    index = open_index(embedder={"model": "new"})
    old = live(index)
    run(index)
    assert search(index, "topic 9", collection="default", generation=old).generation.id == old.id
    assert search(index, "topic 9", collection="default").generation.id == live(index).id != old.id


def up_to_embeddings(runtime: WarmRuntime) -> None:
    """All of a run but its last stage."""
    plan = make_plan(runtime, "default").plan
    for shard in plan.dirty_shards:
        raw_documents.materialize(runtime, plan, shard)
        for stage in (chunks, embeddings):
            stage.materialize(runtime, "default", shard)


@pytest.mark.parametrize(("slow_shards", "fast_shards"), [(3, 5), (5, 3)])
@pytest.mark.parametrize("stage", ["raw_documents", "index_entries"])
def test_runs_under_different_numbers_of_shards_fence_each_other(
    open_index: OpenIndex, source: Path, slow_shards: int, fast_shards: int, stage: str
) -> None:
    corpus(source)
    slow, fast = open_index(sync={"shards": slow_shards}), open_index(sync={"shards": fast_shards})
    run(slow)
    run(fast)
    write(source, "d00.md", "# Document 0\n\nSecond version.\n")
    plan = make_plan(slow, "default").plan
    (shard,) = plan.dirty_shards
    if stage == "index_entries":
        up_to_embeddings(slow)

    def overtake() -> None:
        write(source, "d00.md", "# Document 0\n\nThird version.\n")
        up_to_embeddings(fast)

    at = 2 if stage == "raw_documents" else 5
    slow.__dict__["database"] = InterruptedDatabase(slow.database, at, overtake)
    write_last = {
        "raw_documents": lambda: raw_documents.materialize(slow, plan, shard),
        "index_entries": lambda: index_entries.materialize(slow, "default", shard),
    }
    with pytest.raises(Superseded):
        write_last[stage]()
    run(fast)
    assert live_rows(fast) == wanted_rows(fast, source)
    slow.__dict__["database"] = slow.database._database  # type: ignore[attr-defined]
    assert run(slow).nothing_changed
