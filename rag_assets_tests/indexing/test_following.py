"""What answers follows its documents, whatever else is being built, refused or rolled back."""

from pathlib import Path

from rag_assets.database.generations import all_generations
from rag_assets.indexing.integrity import inspect
from rag_assets.indexing.planning import make_plan
from rag_assets.indexing.promotion import rollback
from rag_assets.indexing.reconcile import reconcile_live
from rag_assets.runtime import Runtime
from rag_assets_tests.driving import (
    OpenIndex,
    WarmRuntime,
    corpus,
    documents,
    live,
    live_rows,
    query,
    run,
    wanted_rows,
    write,
)

REFUSING = {"search_p95_seconds": 1e-9}
"""A budget no search can meet."""


def states(runtime: Runtime) -> dict[str, str]:
    with runtime.database.transaction() as connection:
        return {generation.name: generation.state for generation in all_generations(connection, "default")}


def question_file(tmp_path: Path) -> Path:
    path = tmp_path / "questions.jsonl"
    path.write_text('{"id": "1", "question": "document 4", "relevant": [{"document": "d04.md"}]}\n', encoding="utf-8")
    return path


def test_the_live_index_follows_its_documents_while_another_one_is_refused(
    open_index: OpenIndex, source: Path, tmp_path: Path
) -> None:
    corpus(source)
    old = open_index()
    run(old)
    new = open_index(
        embedder={"model": "2"}, gates=REFUSING, collection={"source": source, "questions": question_file(tmp_path)}
    )
    assert run(new).refused
    (source / "d01.md").unlink()
    write(source, "d02.md", "# Document 2\n\nAll of it was written anew.\n")
    report = run(new)
    assert report.refused
    assert states(new) == {"default#1": "live", "default#2": "refused"}
    assert live_rows(old) == wanted_rows(old, source)
    assert inspect(new, live(new)).faults == 0


def test_following_the_live_index_embeds_an_edit_once_per_model(
    open_index: OpenIndex, source: Path, tmp_path: Path
) -> None:
    corpus(source)
    run(open_index())
    new = open_index(
        embedder={"model": "2"}, gates=REFUSING, collection={"source": source, "questions": question_file(tmp_path)}
    )
    run(new)
    for fake in new.fakes.values():
        fake.embedded.clear()
    write(source, "d02.md", "# Document 2\n\nAll of it was written anew.\n")
    assert run(new).embeddings["computed"] == 2
    assert [len(fake.embedded) for fake in new.fakes.values()] == [1, 1]


def test_the_sensors_plan_judges_by_the_live_index_alone(open_index: OpenIndex, source: Path) -> None:
    corpus(source)
    run(open_index())
    new = open_index(embedder={"model": "2"})
    assert not make_plan(new, "default").plan.is_empty
    assert make_plan(new, "default", only_live=True).plan.is_empty
    write(source, "d02.md", "# Document 2\n\nAll of it was written anew.\n")
    assert [change.uri for change in make_plan(new, "default", only_live=True).plan.changes] == ["d02.md"]


def test_a_rollback_lasts_and_what_answers_then_follows_its_documents(open_index: OpenIndex, source: Path) -> None:
    corpus(source)
    old = open_index()
    run(old)
    new = open_index(embedder={"model": "2"})
    run(new)
    (source / "d01.md").unlink()
    run(new)
    rollback(new, "default", who="test")
    assert states(new) == {"default#1": "live", "default#2": "withdrawn"}
    report = run(new)
    assert not report.generation["promoted"]
    assert states(new) == {"default#1": "live", "default#2": "withdrawn"}
    assert "d01.md" not in documents(new)
    assert live_rows(old) == wanted_rows(old, source)
    assert run(new).nothing_changed


def test_a_lost_vector_is_computed_again_by_reconcile(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    run(index)
    index.embedded.clear()
    query(index, "DELETE FROM embedding WHERE text_hash = (SELECT min(text_hash) FROM embedding)")
    assert inspect(index, live(index)).wrong == 1
    found = reconcile_live(index, "default")
    assert found is not None
    assert found.after.faults == 0
    assert len(index.embedded) == 1
    assert live_rows(index) == wanted_rows(index, source)
