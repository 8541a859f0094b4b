"""Identity of chunks and of the chunker."""

from rag_assets.chunking import STRATEGIES, chunk_document, chunker_fingerprint, identify
from rag_assets.fingerprint import text_hash
from rag_assets.models import ChunkDraft
from rag_assets.settings import ChunkingSettings
from rag_assets_tests.fakes import FakeEmbedder

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


class Model(FakeEmbedder):
    """A model of given fingerprints."""

    def __init__(self, tokenizer: str = "a", version: str = "1", max_tokens: int = 256) -> None:
        super().__init__(version=version, max_tokens=max_tokens)
        self.tokenizer_fingerprint = tokenizer


def test_the_fingerprint_changes_with_every_setting_and_with_the_tokenizer() -> None:
    variants = [
        chunker_fingerprint(ChunkingSettings(), Model("a")),
        chunker_fingerprint(ChunkingSettings(), Model("b")),
        chunker_fingerprint(ChunkingSettings(max_tokens=128), Model("a")),
        chunker_fingerprint(ChunkingSettings(overlap_tokens=0), Model("a")),
        chunker_fingerprint(ChunkingSettings(contextual=False), Model("a")),
        *(
            chunker_fingerprint(ChunkingSettings(strategy=name), Model("a"))
            for name in STRATEGIES
            if name != "recursive"
        ),
        chunker_fingerprint(ChunkingSettings(strategy="sentence-window", sentence_tokens=32), Model("a")),
        chunker_fingerprint(ChunkingSettings(strategy="semantic", breakpoint_percentile=80), Model("a")),
    ]
    assert len(set(variants)) == len(variants)
    assert variants[0] == chunker_fingerprint(ChunkingSettings(), Model("a"))


def test_only_what_a_strategy_looks_at_cuts_its_documents_again() -> None:
    unlike = ChunkingSettings(sentence_tokens=32, breakpoint_percentile=80)
    assert chunker_fingerprint(unlike, Model()) == chunker_fingerprint(ChunkingSettings(), Model())
    changed = {
        name: {
            what
            for what, model in (("vectors", Model(version="2")), ("longest input", Model(max_tokens=512)))
            if chunker_fingerprint(ChunkingSettings(strategy=name), model)
            != chunker_fingerprint(ChunkingSettings(strategy=name), Model())
        }
        for name in STRATEGIES
    }
    assert changed == {
        "recursive": set(), "sliding": set(), "sentence-window": set(), "semantic": {"vectors"}, "whole": {"longest input"}
    }  # fmt: skip


def test_the_text_hash_of_a_sentence_with_its_window_is_of_the_sentence_alone() -> None:
    draft = ChunkDraft("One. Two. Three.", 10, 26, context="Guide", embedded_span=(15, 19))
    assert (draft.embedded_part, draft.embedded_text) == ("Two.", "Guide\nTwo.")
    assert identify("doc", [draft])[0].text_hash == text_hash("Guide\nTwo.")
