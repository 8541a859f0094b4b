"""``forget``: nothing of the document is left, whatever runs meanwhile, and it does not come back by itself."""

from contextlib import suppress
from pathlib import Path

import pytest

from rag_assets.errors import Superseded
from rag_assets.indexing import chunks, embeddings, index_entries, raw_documents
from rag_assets.indexing.forgetting import forget, remember
from rag_assets.indexing.planning import make_plan
from rag_assets_tests.driving import (
    InterruptedDatabase,
    OpenIndex,
    WarmRuntime,
    corpus,
    documents,
    live_rows,
    query,
    run,
    wanted_rows,
    write,
)

CANARY = "zanzibarquux"
SECRET = f"# Secret\n\nThe password of the pelican is {CANARY}.\n"


def tables_with(runtime: WarmRuntime, word: str, *schemas: str) -> set[str]:
    """Tables of these schemas in which any row, as text, has the word."""
    tables = query(
        runtime,
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p') AND n.nspname = ANY(%s)",
        list(schemas or ("rag",)),
    )
    return {
        f"{schema}.{table}"
        for schema, table in tables
        if query(runtime, f'SELECT 1 FROM "{schema}"."{table}" t WHERE t::text ILIKE %s LIMIT 1', f"%{word}%")
    }


def vectors_of_nothing(runtime: WarmRuntime) -> int:
    statement = (
        "SELECT count(*) FROM embedding e WHERE NOT EXISTS (SELECT 1 FROM chunk c WHERE c.text_hash = e.text_hash)"
    )
    return int(query(runtime, statement)[0][0])


def update(runtime: WarmRuntime, shard: int) -> None:
    """The four stages of a shard, by a plan made before any of them."""
    raw_documents.materialize(runtime, runtime.plans["default"], shard)
    for stage in (chunks, embeddings, index_entries):
        stage.materialize(runtime, "default", shard)


def test_a_document_forgotten_under_a_run_at_any_point_leaves_nothing(open_index: OpenIndex, source: Path) -> None:
    """The run is interrupted before each of its transactions in turn, from its first to its last."""
    corpus(source)
    fast = open_index(sync={"shards": 1})
    run(fast)
    write(source, "secret.md", SECRET)
    run(fast)
    at, refused = 0, 0
    while True:
        at += 1
        # Known and changed: forgetting needs something to forget, the run something to write.
        write(source, "secret.md", f"{SECRET}\nVersion {at}.\n")
        slow = open_index(sync={"shards": 1})
        slow.plans["default"] = make_plan(slow, "default").plan
        database = InterruptedDatabase(slow.database, at, lambda: forget(fast, "default", "secret.md") and None)
        slow.__dict__["database"] = database
        try:
            update(slow, 0)
        except Superseded:
            refused += 1
        if database.begun < at:
            break
        assert tables_with(fast, CANARY) == set(), at
        assert vectors_of_nothing(fast) == 0, at
        run(fast)
        assert "secret.md" not in documents(fast)
        assert remember(fast, "default", "secret.md")
        run(fast)
        assert "secret.md" in documents(fast)
    assert at > 10
    assert refused >= 2


@pytest.mark.parametrize("renamed", [False, True])
def test_a_plan_from_before_brings_no_forgotten_document_back(
    open_index: OpenIndex, source: Path, renamed: bool
) -> None:
    """``sync`` plans once for all shards: a shard may be run long after the document was forgotten."""
    corpus(source)
    index = open_index()
    write(source, "secret.md", SECRET)
    run(index)
    if renamed:
        (source / "secret.md").rename(source / "moved.md")
    else:
        write(source, "secret.md", f"{SECRET}\nAnother version.\n")
    index.plans["default"] = make_plan(index, "default").plan
    forget(index, "default", "secret.md")
    for shard in range(3):
        with suppress(Superseded):
            update(index, shard)
    assert tables_with(index, CANARY) == set()
    index.plans.clear()
    run(index)
    assert tables_with(index, CANARY) == set()


def test_a_forgotten_file_stays_out_under_another_name_until_it_is_let_back(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    write(source, "secret.md", SECRET)
    run(index)
    forget(index, "default", "secret.md")
    (source / "secret.md").rename(source / "innocent.md")
    run(index)
    assert run(index, verify=True).nothing_changed
    assert tables_with(index, CANARY) == set()
    ((reason,),) = query(index, "SELECT reason FROM listing_problem WHERE uri = 'innocent.md'")
    assert reason == "was forgotten on request; `rag-assets forget --undo` lets it back"
    assert remember(index, "default", "secret.md")
    assert not remember(index, "default", "secret.md")
    run(index)
    assert "innocent.md" in documents(index)
    assert live_rows(index) == wanted_rows(index, source)


def test_another_document_under_the_name_of_a_forgotten_one_stays_out_too(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    run(index)
    forget(index, "default", "d01.md")
    write(source, "d01.md", "# Another\n\nIt has nothing in common with the first.\n")
    assert run(index).nothing_changed
    assert "d01.md" not in documents(index)


def test_a_text_that_another_document_has_keeps_its_vector(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    write(source, "copy.md", (source / "d01.md").read_text(encoding="utf-8"))
    run(index)
    done = forget(index, "default", "d01.md")
    assert done.removed["embedding"] == 0
    assert done.removed["index_entry"] == 1
    assert set(done.left.values()) == {0}
    (source / "d01.md").unlink()
    index.embedded.clear()
    run(index)
    assert index.embedded == []
    assert live_rows(index) == wanted_rows(index, source)
