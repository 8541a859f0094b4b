"""Identity of chunks and of the chunker."""

from rag_assets.chunking import chunk_document, chunker_fingerprint, identify
from rag_assets.fingerprint import text_hash
from rag_assets.models import ChunkDraft
from rag_assets.settings import ChunkingSettings

from .counters import document, section, wordpiece, words


def drafts(*texts: str) -> list[ChunkDraft]:
    return [ChunkDraft(text, 0, len(text), context="Guide") for text in texts]


def test_an_insertion_at_the_top_renames_no_chunk_below_it() -> None:
    body = [element for name in "abcdef" for element in section((name,), words(40, name))]
    limits, counter = ChunkingSettings(max_tokens=128), wordpiece()
    before = identify("doc", chunk_document(document(body, "Guide"), limits, counter))
    longer = document([*section(("New",), words(40, "new")), *body], "Guide")
    after = identify("doc", chunk_document(longer, limits, counter))
    assert len(after) == len(before) + 1
    assert [chunk.chunk_id for chunk in after[1:]] == [chunk.chunk_id for chunk in before]
    assert [chunk.position for chunk in after] == [*range(len(after))]


def test_equal_passages_stay_two_chunks_that_share_one_embedding() -> None:
    first, second, other = identify("doc", drafts("Same.", "Same.", "Other."))
    assert first.chunk_id != second.chunk_id
    assert first.text_hash == second.text_hash != other.text_hash


def test_the_text_hash_is_of_the_text_that_is_embedded() -> None:
    assert identify("doc", drafts("Words."))[0].text_hash == text_hash("Guide\nWords.")


def test_the_same_text_in_two_documents_is_two_chunks() -> None:
    assert identify("one", drafts("Words."))[0].chunk_id != identify("two", drafts("Words."))[0].chunk_id


def test_the_fingerprint_changes_with_every_setting_and_with_the_tokenizer() -> None:
    variants = [
        chunker_fingerprint(ChunkingSettings(), "a"),
        chunker_fingerprint(ChunkingSettings(), "b"),
        chunker_fingerprint(ChunkingSettings(max_tokens=128), "a"),
        chunker_fingerprint(ChunkingSettings(overlap_tokens=0), "a"),
        chunker_fingerprint(ChunkingSettings(contextual=False), "a"),
    ]
    assert len(set(variants)) == len(variants)
    assert variants[0] == chunker_fingerprint(ChunkingSettings(), "a")
