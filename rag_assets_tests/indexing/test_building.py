"""A new generation is built beside the live one, goes live only if it is no worse, and the way back stays open."""

import json
from pathlib import Path

import pytest

from rag_assets.database import generations
from rag_assets.errors import GateRefused, RagAssetsError
from rag_assets.evaluation import publishing
from rag_assets.indexing import hnsw_index, promotion
from rag_assets.indexing.status import describe
from rag_assets.indexing.sync import Runner, sync
from rag_assets.retrieval.search import search
from rag_assets_tests.driving import (
    OpenIndex,
    WarmRuntime,
    answers,
    corpus,
    documents,
    live,
    live_rows,
    query,
    run,
    wanted_rows,
    write,
)
from rag_assets_tests.fakes import DirectRunner, FakeEmbedder, index_rows

QUESTIONS = ("What tells of topic 9?", "document 4", "Paragraph 2 of document 6")


def states(runtime: WarmRuntime) -> dict[str, str]:
    with runtime.database.transaction() as connection:
        return {item.name: item.state for item in generations.all_generations(connection, "default")}


def build_only(runtime: WarmRuntime) -> None:
    """Run every shard and stop before anything is published."""

    class Unpublished(DirectRunner):
        def publish(self, collection: str) -> None:
            raise GateRefused("not yet")

    def runner() -> Runner:
        return Unpublished(runtime)

    sync(runtime, "default", runner)


def test_another_model_is_built_beside_the_live_index_which_answers_until_promotion(
    open_index: OpenIndex, source: Path
) -> None:
    corpus(source)
    old = open_index()
    run(old)
    expected = answers(old, *QUESTIONS)
    new = open_index(embedder={"model": "2"})
    build_only(new)
    assert states(new) == {"default#1": "live", "default#2": "building"}
    # Both processes answer from the old generation with the old model, whatever the new one is configured for.
    assert answers(new, *QUESTIONS) == answers(old, *QUESTIONS) == expected
    report = run(new)
    assert report.generation["promoted"]
    assert states(new) == {"default#1": "retired", "default#2": "live"}
    assert new.embedded
    assert live_rows(new) == wanted_rows(new, source)
    assert answers(new, *QUESTIONS) != expected
    # The process that is still configured for the old model follows the live generation.
    assert answers(old, *QUESTIONS) == answers(new, *QUESTIONS)


def test_a_promoted_index_is_not_embedded_again(open_index: OpenIndex, source: Path) -> None:
    corpus(source)
    run(open_index())
    new = open_index(embedder={"model": "2"})
    build_only(new)
    embedded = list(new.embedded)
    run(new)
    assert new.embedded == embedded
    assert len(embedded) == len(set(embedded))
    assert run(new).nothing_changed


def test_a_model_that_is_not_the_one_the_index_was_made_with_does_not_answer(
    open_index: OpenIndex, source: Path
) -> None:
    corpus(source)
    run(open_index())
    other = open_index(embedder={"model": "2"})
    # The model's files were replaced under the same name: same settings, other vectors.
    other.fakes["all-MiniLM-L6-v2"] = FakeEmbedder(version="replaced", dimension=64)
    with pytest.raises(RagAssetsError, match="default#1 was made with another version of the model"):
        search(other, "document 4")


def test_another_chunk_size_cuts_everything_again_and_embeds_only_new_texts(
    open_index: OpenIndex, source: Path
) -> None:
    corpus(source)
    write(source, "short.md", "One short line.\n")
    first = open_index()
    run(first)
    texts = set(first.embedded)
    smaller = open_index(chunking={"max_tokens": 24, "overlap_tokens": 0})
    report = run(smaller)
    assert report.generation["promoted"]
    assert len(live_rows(smaller)) > 9
    assert live_rows(smaller) == wanted_rows(smaller, source)
    assert smaller.embedded
    assert not set(smaller.embedded) & texts


def test_other_hnsw_parameters_build_a_generation_and_embed_nothing(open_index: OpenIndex, source: Path) -> None:
    corpus(source)
    first = open_index()
    run(first)
    before = live_rows(first)
    other = open_index(index={"m": 8})
    report = run(other)
    assert report.generation["promoted"]
    assert other.embedded == []
    assert report.embeddings == {"computed": 0, "reused": len(before)}
    assert states(other) == {"default#1": "retired", "default#2": "live"}
    assert live_rows(other) == before
    (row,) = query(other, "SELECT reloptions FROM pg_class WHERE relname = %s", f"index_entry_g{live(other).id}_hnsw")
    assert "m=8" in row[0]


def test_how_hard_the_index_is_searched_builds_nothing(open_index: OpenIndex, source: Path) -> None:
    corpus(source)
    run(open_index())
    assert run(open_index(index={"ef_search": 200})).nothing_changed


def test_a_deleted_document_leaves_no_work_behind_after_a_change_of_chunk_size(
    open_index: OpenIndex, source: Path
) -> None:
    corpus(source)
    run(open_index())
    smaller = open_index(chunking={"max_tokens": 24, "overlap_tokens": 0})
    run(smaller)
    (source / "d01.md").unlink()
    assert run(smaller).documents["removed"] == 1
    assert run(smaller).nothing_changed
    assert query(smaller, "SELECT count(*) FROM chunk WHERE text LIKE '%%of document 1 %%'") == [(0,)]


@pytest.fixture
def judged(open_index: OpenIndex, source: Path, tmp_path: Path) -> tuple[Path, WarmRuntime]:
    """A live index that answers its golden questions, with the file of them."""
    for number in range(12):
        words = " ".join(f"w{number}x{n}" for n in range(12))
        write(source, f"d{number:02d}.md", f"# Topic {number}\n\n{words}\n")
    questions = tmp_path / "questions.jsonl"
    lines = [
        {"id": f"q{n:02d}", "question": f"w{n}x1 w{n}x5 w{n}x9 w{n}x11", "relevant": [{"document": f"d{n:02d}.md"}]}
        for n in range(12)
    ]
    questions.write_text("".join(json.dumps(line) + "\n" for line in lines))
    runtime = open_index(collection={"questions": questions}, retrieval=DENSE)
    run(runtime)
    return questions, runtime


DENSE = {"mode": "dense"}
"""Words alone would answer what a blind model misses."""


class Blind(FakeEmbedder):
    """Finds nothing: questions and documents are embedded by different words."""

    def embed_queries(self, texts: object) -> object:  # type: ignore[override]
        return self._vectors([f"unrelated {number}" for number, _ in enumerate(texts)])  # type: ignore[arg-type,var-annotated]


def test_a_worse_generation_is_refused_and_the_old_one_answers_on(
    judged: tuple[Path, WarmRuntime], open_index: OpenIndex
) -> None:
    questions, old = judged
    expected = answers(old, "w3x1 w3x5", "w7x2")
    worse = open_index(collection={"questions": questions}, embedder={"model": "blind"}, retrieval=DENSE)
    worse.fakes["blind"] = Blind(version="blind", dimension=64)
    report = run(worse)
    assert not report.generation["promoted"]
    assert report.refused is not None
    assert "nDCG@10" in report.refused
    assert "default#2 did not pass" in report.refused
    assert states(worse) == {"default#1": "live", "default#2": "refused"}
    assert answers(old, "w3x1 w3x5", "w7x2") == expected
    (shown,) = [item for item in describe(worse, "default")["collections"][0]["generations"] if item["id"] == 2]
    assert shown["state"] == "refused"
    assert "nDCG@10" in shown["reason"]
    written = publishing.report_folder(worse, live(worse), 0).parent.glob("0002-*/*.html")
    assert len(list(written)) == 1


def test_a_refused_generation_is_refused_again_until_something_changes(
    judged: tuple[Path, WarmRuntime], open_index: OpenIndex
) -> None:
    questions, _ = judged
    worse = open_index(collection={"questions": questions}, embedder={"model": "blind"}, retrieval=DENSE)
    worse.fakes["blind"] = Blind(version="blind", dimension=64)
    run(worse)
    assert run(worse).refused is not None
    with pytest.raises(GateRefused):
        publishing.promote_target(worse, "default", who="test")
    better = open_index(collection={"questions": questions}, retrieval=DENSE)
    assert run(better).nothing_changed
    assert states(better)["default#1"] == "live"


def test_a_generation_that_changed_since_it_was_judged_is_not_promoted(open_index: OpenIndex, source: Path) -> None:
    corpus(source)
    index = open_index()
    build_only(index)
    hnsw_index.materialize(index, "default")
    publishing.evaluate_target(index, "default")
    write(source, "late.md", "# Late\n\nNobody has judged this.\n")
    build_only(index)
    with pytest.raises(GateRefused, match="changed since it was evaluated"):
        publishing.promote_target(index, "default", who="test")
    assert index.live("default") is None


def test_a_generation_that_was_damaged_since_it_was_judged_is_not_promoted(open_index: OpenIndex, source: Path) -> None:
    corpus(source)
    index = open_index()
    build_only(index)
    hnsw_index.materialize(index, "default")
    publishing.evaluate_target(index, "default")
    query(index, "DELETE FROM index_entry WHERE chunk_id = (SELECT min(chunk_id) FROM index_entry)")
    with pytest.raises(GateRefused, match="1 chunks are missing"):
        publishing.promote_target(index, "default", who="test")


def test_a_generation_that_was_never_judged_is_not_promoted(open_index: OpenIndex, source: Path) -> None:
    corpus(source)
    index = open_index()
    build_only(index)
    hnsw_index.materialize(index, "default")
    with pytest.raises(RagAssetsError, match="was never evaluated"):
        publishing.promote_target(index, "default", who="test")
    assert index.live("default") is None


def test_an_index_without_any_chunk_is_refused(index: WarmRuntime, source: Path) -> None:
    write(source, "empty.md", "")
    report = run(index)
    assert report.refused is not None
    assert "The index holds no chunk at all." in report.refused


def test_rollback_returns_the_exact_previous_answers_and_embeds_nothing(open_index: OpenIndex, source: Path) -> None:
    corpus(source)
    old = open_index()
    run(old)
    expected, rows = answers(old, *QUESTIONS), live_rows(old)
    new = open_index(embedder={"model": "2"})
    run(new)
    assert answers(new, *QUESTIONS) != expected
    new.embedded.clear()
    done = promotion.rollback(new, "default", who="test")
    assert done.previous is not None
    assert (done.live.name, done.previous.name, done.changed) == ("default#1", "default#2", True)
    assert answers(new, *QUESTIONS) == expected
    assert live_rows(new) == rows
    assert new.embedded == []


def test_a_rollback_with_nothing_to_go_back_to_is_refused(index: WarmRuntime, source: Path) -> None:
    with pytest.raises(RagAssetsError, match="no live index"):
        promotion.rollback(index, "default", who="test")
    corpus(source)
    run(index)
    with pytest.raises(GateRefused, match="no retained predecessor"):
        promotion.rollback(index, "default", who="test")


def test_generations_beyond_those_kept_are_dropped_with_their_rows(open_index: OpenIndex, source: Path) -> None:
    corpus(source)
    for m in (4, 5, 6):
        index = open_index(index={"m": m}, sync={"shards": 3, "keep_retired": 1})
        run(index)
    assert states(index) == {"default#2": "retired", "default#3": "live"}
    assert {row[0] for row in query(index, "SELECT DISTINCT generation_id FROM index_entry")} == {2, 3}
    assert index_rows(index, 2) == index_rows(index, 3)


def test_a_text_that_another_collection_holds_is_not_embedded_again(
    open_index: OpenIndex, source: Path, tmp_path: Path
) -> None:
    corpus(source, 2)
    other = tmp_path / "other"
    other.mkdir()
    corpus(other, 3)
    index = open_index(collections={"default": {"source": source}, "other": {"source": other}})
    run(index)
    index.embedded.clear()
    report = sync(index, "other", lambda: DirectRunner(index))
    assert report.documents["added"] == 3
    assert len(index.embedded) == 1
    assert {hit.document for hit in search(index, "document", collection="other").hits} == {
        f"d0{n}.md" for n in range(3)
    }


def test_both_collections_of_a_database_keep_to_themselves(open_index: OpenIndex, source: Path, tmp_path: Path) -> None:
    corpus(source)
    other = tmp_path / "other"
    other.mkdir()
    write(other, "o.md", "# Other\n\nAnother collection.\n")
    index = open_index(collections={"default": {"source": source}, "other": {"source": other}})
    run(index)
    report = sync(index, "other", lambda: DirectRunner(index))
    assert report.documents["added"] == 1
    assert "o.md" not in documents(index)
    assert [hit.document for hit in search(index, "document 3", collection="other").hits] == ["o.md"]
    (source / "d00.md").unlink()
    run(index)
    assert sync(index, "other", lambda: DirectRunner(index)).nothing_changed
