"""``gc``: exactly what nothing can reach goes, and what is kept answers as before."""

from concurrent.futures import wait
from pathlib import Path
from typing import Any

from rag_assets.database.generations import Generation, all_generations
from rag_assets.indexing.garbage import collect_garbage
from rag_assets.indexing.promotion import rollback
from rag_assets.indexing.sync import sync
from rag_assets.retrieval.search import search
from rag_assets.runtime import Runtime
from rag_assets_tests.driving import (
    OpenIndex,
    WarmRuntime,
    answers,
    corpus,
    live,
    live_rows,
    query,
    run,
    wanted_rows,
    write,
)
from rag_assets_tests.fakes import DirectRunner
from rag_assets_tests.indexing.test_following import REFUSING, question_file, states

TABLES = {
    "chunk": "chunker_fp, chunk_id",
    "embedding": "embedder_fp, text_hash",
    "index_entry": "generation_id, chunk_id, text_hash",
    "indexed": "generation_id, doc_id, document_hash",
}


def everything(runtime: Runtime) -> dict[str, set[tuple[Any, ...]]]:
    return {table: set(query(runtime, f"SELECT {columns} FROM {table}")) for table, columns in TABLES.items()}


def reachable(
    runtime: WarmRuntime, before: dict[str, set[tuple[Any, ...]]], kept: list[Generation]
) -> dict[str, set[tuple[Any, ...]]]:
    """The oracle: what of ``before`` one of these generations, or the one the configuration asks for, can use."""
    ids = {generation.id for generation in kept}
    key = runtime.key("default")
    chunkers = {generation.key.chunker_fp for generation in kept} | {key.chunker_fp}
    models = {generation.key.embedder_fp for generation in kept} | {key.embedder_fp}
    chunks = {row for row in before["chunk"] if row[0] in chunkers}
    entries = {row for row in before["index_entry"] if row[0] in ids}
    cut = {row[1] for row in query(runtime, "SELECT DISTINCT chunker_fp, text_hash FROM chunk") if row[0] in chunkers}
    texts = cut | {row[2] for row in entries}
    return {
        "chunk": chunks,
        "index_entry": entries,
        "indexed": {row for row in before["indexed"] if row[0] in ids},
        "embedding": {row for row in before["embedding"] if row[0] in models and row[1] in texts},
    }


def generations(runtime: Runtime) -> list[Generation]:
    with runtime.database.transaction() as connection:
        return all_generations(connection, "default")


def test_only_what_nothing_can_reach_goes_and_what_is_kept_answers_as_before(
    open_index: OpenIndex, source: Path, tmp_path: Path
) -> None:
    corpus(source)
    first = open_index()
    run(first)
    second = open_index(embedder={"model": "2"}, chunking={"max_tokens": 32, "overlap_tokens": 0})
    run(second)
    # Begun, refused and given up: its model and its chunks are nobody's.
    third = open_index(
        embedder={"model": "3"},
        chunking={"max_tokens": 48, "overlap_tokens": 0},
        gates=REFUSING,
        collection={"questions": question_file(tmp_path)},
    )
    assert run(third).refused
    write(source, "d01.md", "# Changed\n\nIt says something else now.\n")
    (source / "d02.md").unlink()
    run(second)
    assert states(second) == {"default#1": "retired", "default#2": "live", "default#3": "refused"}
    old, asked = generations(second)[-1], ("topic 9", "document 4")
    before, said = everything(second), answers(second, *asked)
    retired = [search(second, question, collection="default", generation=old).hits for question in asked]
    wanted = reachable(second, before, [item for item in generations(second) if item.state in ("live", "retired")])

    done = collect_garbage(second, "default")

    assert everything(second) == wanted
    assert done.generations == ("default#3",)
    assert done.chunks == len(before["chunk"] - wanted["chunk"]) > 0
    assert done.vectors == len(before["embedding"] - wanted["embedding"]) > 0
    assert answers(second, *asked) == said
    assert [search(second, question, collection="default", generation=old).hits for question in asked] == retired
    assert run(second).nothing_changed
    second.embedded.clear()
    assert rollback(second, "default", who="test").live.id == old.id
    assert live(first).name == "default#1"
    # Nothing more to collect, neither then nor again.
    assert collect_garbage(second, "default").generations == ()


def test_retired_generations_beyond_those_kept_go_with_their_vectors(open_index: OpenIndex, source: Path) -> None:
    corpus(source)
    for model in ("1", "2", "3"):
        run(open_index(embedder={"model": model}))
    index = open_index(embedder={"model": "3"}, sync={"shards": 3, "keep_retired": 1})
    before = everything(index)
    kept = [item for item in generations(index) if item.sequence > 1]
    wanted = reachable(index, before, kept)
    done = collect_garbage(index, "default")
    assert done.generations == ("default#1",)
    assert done.vectors == 8
    assert everything(index) == wanted
    assert states(index) == {"default#2": "retired", "default#3": "live"}


def test_a_generation_being_built_for_the_configuration_in_force_is_kept(
    open_index: OpenIndex, source: Path, tmp_path: Path
) -> None:
    corpus(source)
    run(open_index())
    index = open_index(embedder={"model": "2"}, gates=REFUSING, collection={"questions": question_file(tmp_path)})
    assert run(index).refused
    before = everything(index)
    done = collect_garbage(index, "default")
    assert (done.generations, done.chunks, done.vectors) == ((), 0, 0)
    assert everything(index) == before


def test_the_vectors_of_a_removed_document_go_once_no_generation_shows_it(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    run(index)
    (source / "d03.md").unlink()
    run(index)
    assert query(index, "SELECT count(*) FROM embedding") == [(8,)]
    assert collect_garbage(index, "default").vectors == 1
    assert query(index, "SELECT count(*) FROM embedding") == [(7,)]
    assert run(index).nothing_changed
    assert live_rows(index) == wanted_rows(index, source)


def test_a_vector_collected_between_embedding_and_indexing_is_computed_again(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    lost: list[int] = []

    class Losing(DirectRunner):
        """Deletes a vector when all are there, just before rows are written from them."""

        def update_shard(self, collection: str, shard: int) -> None:
            wait(index.ahead.values())
            if not lost:
                lost.append(1)
                query(index, "DELETE FROM embedding WHERE text_hash = (SELECT min(text_hash) FROM embedding)")
            super().update_shard(collection, shard)

    report = sync(index, "default", lambda: Losing(index))
    assert lost
    assert report.generation["promoted"]
    assert len(index.embedded) == 9
    assert live_rows(index) == wanted_rows(index, source)
