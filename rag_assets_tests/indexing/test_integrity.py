"""Every kind of difference between the index and the ledger is found, counted, and stops a promotion."""

from pathlib import Path

import psycopg
import pytest

from rag_assets.evaluation.checks import structural_checks
from rag_assets.indexing.integrity import Integrity, inspect
from rag_assets.indexing.reconcile import reconcile
from rag_assets.stores import pgvector, reachability
from rag_assets_tests.driving import (
    OpenIndex,
    WarmRuntime,
    corpus,
    live,
    live_rows,
    planned,
    query,
    run,
    wanted_rows,
    write,
)

FIRST = "(SELECT min(chunk_id) FROM index_entry)"

DAMAGE = {
    "a deleted row": (f"DELETE FROM index_entry WHERE chunk_id = {FIRST}", "missing", "complete"),
    "a duplicated row": (
        "INSERT INTO index_entry SELECT generation_id, 'twin', doc_id, text_hash, text, payload, embedding, embedder_fp"
        f" FROM index_entry WHERE chunk_id = {FIRST}",
        "extra",
        "nothing_extra",
    ),
    "a row of no document": (
        "INSERT INTO index_entry SELECT generation_id, 'stray', 'nobody', 'no text', 'stray', payload, embedding, embedder_fp"
        f" FROM index_entry WHERE chunk_id = {FIRST}",
        "extra",
        "nothing_extra",
    ),
    "another text": (f"UPDATE index_entry SET text = 'forged' WHERE chunk_id = {FIRST}", "wrong", "contents"),
    "another document": (f"UPDATE index_entry SET doc_id = 'forged' WHERE chunk_id = {FIRST}", "wrong", "contents"),
    "another vector": (
        "UPDATE index_entry SET embedding = (SELECT embedding FROM index_entry ORDER BY chunk_id DESC LIMIT 1)"
        f" WHERE chunk_id = {FIRST}",
        "wrong",
        "contents",
    ),
    "a lost vector": (
        f"DELETE FROM embedding WHERE text_hash = (SELECT text_hash FROM index_entry WHERE chunk_id = {FIRST})",
        "wrong",
        "contents",
    ),
    "a stale document": (
        "UPDATE document SET document_hash = 'newer' WHERE doc_id = (SELECT min(doc_id) FROM document)",
        "stale_documents",
        "complete",
    ),
    "a lost parsed form": (
        "DELETE FROM document WHERE doc_id = (SELECT min(doc_id) FROM document)",
        "stale_documents",
        "complete",
    ),
    "lost chunks": ("DELETE FROM chunk WHERE chunk_id = (SELECT min(chunk_id) FROM chunk)", "lost_chunks", "complete"),
    "a chunk longer than the model reads": (
        f"UPDATE chunk SET tokens = 257 WHERE chunk_id = {FIRST}",
        "truncated",
        "nothing_truncated",
    ),
    "a row longer than the model reads": (
        f"UPDATE index_entry SET payload = payload || '{{\"tokens\": 257}}' WHERE chunk_id = {FIRST}",
        "truncated",
        "nothing_truncated",
    ),
    "a document never indexed": (
        "DELETE FROM indexed WHERE doc_id = (SELECT min(doc_id) FROM document)",
        "stale_documents",
        "complete",
    ),
}


def test_an_index_is_sound_after_every_kind_of_change(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    write(source, "copy.md", (source / "d00.md").read_text())
    run(index)
    write(source, "d01.md", "# Changed\n\nIt says something else now.\n")
    write(source, "d02.md", "")
    (source / "d03.md").unlink()
    (source / "d04.md").rename(source / "moved.md")
    run(index)
    found = inspect(index, live(index))
    assert found == Integrity(rows=7, missing=0, extra=0, wrong=0, stale_documents=0, unreachable=0, looked_up=7)


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found_and_named(index: WarmRuntime, source: Path, damage: str) -> None:
    statement, field, check = DAMAGE[damage]
    corpus(source)
    run(index)
    query(index, statement)
    found = inspect(index, live(index))
    assert getattr(found, field) == 1
    failed = [item.name for item in structural_checks(found) if not item.passed]
    assert check in failed
    assert found.faults >= 1


def test_a_row_that_the_graph_has_lost_is_unreachable(index: WarmRuntime, source: Path) -> None:
    """PostgreSQL is told to write a row into the table only, which no write of ours can do."""
    corpus(source, 12)
    run(index)
    generation = live(index)
    with psycopg.connect(index.settings.postgres_url.replace("//rag@", "//postgres@")) as connection:
        connection.execute("SET search_path = rag, public")
        connection.execute("SET enable_seqscan = off")
        assert reachability.unreachable(connection, generation) == []
        ready = "UPDATE pg_index SET indisready = %s WHERE indexrelid = %s::regclass"
        connection.execute(ready, (False, f"index_entry_g{generation.id}_hnsw"))
        connection.execute(f"UPDATE index_entry SET payload = payload || '{{\"a\": 1}}' WHERE chunk_id = {FIRST}")
        connection.execute(ready, (True, f"index_entry_g{generation.id}_hnsw"))
        lost = connection.execute(f"SELECT {FIRST}").fetchone()
        assert reachability.unreachable(connection, generation) == [*(lost or ())]
        pgvector.rebuild_index(connection, generation)
        assert reachability.unreachable(connection, generation) == []


def test_an_unreachable_row_stops_a_promotion() -> None:
    found = Integrity(rows=7, missing=0, extra=0, wrong=0, stale_documents=0, unreachable=1, looked_up=7)
    assert [item.name for item in structural_checks(found) if not item.passed] == ["reachable"]


def test_different_texts_with_one_vector_are_all_reachable(index: WarmRuntime, source: Path) -> None:
    corpus(source, 12)
    run(index)
    query(
        index,
        "UPDATE index_entry e SET embedding = (SELECT embedding FROM index_entry ORDER BY chunk_id LIMIT 1)",
    )
    assert inspect(index, live(index)).unreachable == 0


def test_equal_texts_in_many_documents_are_all_reachable(index: WarmRuntime, source: Path) -> None:
    for number in range(15):
        write(source, f"{number}.md", "# Same\n\nThe same words in every file.\n")
    run(index)
    assert inspect(index, live(index)).faults == 0


def test_an_empty_index_is_not_sound(index: WarmRuntime, source: Path) -> None:
    corpus(source, 2)
    run(index)
    for path in source.iterdir():
        path.unlink()
    run(index, allow_mass_delete=True)
    found = inspect(index, live(index))
    assert (found.rows, found.faults) == (0, 0)
    assert [item.name for item in structural_checks(found) if not item.passed] == ["not_empty"]


def test_the_rows_of_another_generation_are_not_inspected(open_index: OpenIndex, source: Path) -> None:
    corpus(source)
    run(open_index())
    index = open_index(index={"m": 8})
    run(index)
    query(index, "DELETE FROM index_entry WHERE generation_id <> %s", live(index).id)
    assert inspect(index, live(index)).faults == 0


def test_chunks_and_rows_that_were_both_deleted_are_cut_embedded_and_indexed_again(
    index: WarmRuntime, source: Path
) -> None:
    corpus(source)
    run(index)
    before = live_rows(index)
    lost = "SELECT chunk_id FROM chunk ORDER BY chunk_id LIMIT 5"
    query(index, f"DELETE FROM index_entry WHERE chunk_id IN ({lost})")
    query(index, f"DELETE FROM chunk WHERE chunk_id IN ({lost})")
    assert inspect(index, live(index)).faults > 0
    found = reconcile(index, live(index))
    assert found.before.lost_chunks > 0
    assert found.after.faults == 0
    assert live_rows(index) == before == wanted_rows(index, source)


def test_a_document_whose_parsed_form_was_deleted_is_read_again(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    run(index)
    before = live_rows(index)
    query(index, "DELETE FROM document WHERE doc_id = (SELECT min(doc_id) FROM document)")
    (change,) = planned(index).changes
    assert change.reason == "its parsed form was lost"
    report = run(index)
    assert report.embeddings["computed"] == 0
    assert live_rows(index) == before
    assert planned(index).is_empty
