"""Identity of chunks: stable under edits elsewhere in the document."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rag_assets.fingerprint import chunk_id, text_hash
from rag_assets.models import ChunkDraft


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk with its identity."""

    chunk_id: str
    doc_id: str
    position: int
    """Place in the document, counted from 0."""
    text_hash: str
    """Hash of ``draft.embedded_text``: chunks that share it share one embedding."""
    draft: ChunkDraft


def identify(doc_id: str, drafts: Sequence[ChunkDraft]) -> list[Chunk]:
    """Give the drafts of one document, in document order, their identity.

    The id is made of the document, the embedded text and the ordinal among equal texts, so text that moves keeps its
    id and two equal passages stay two chunks.
    """
    seen: Counter[str] = Counter()
    chunks = []
    for position, draft in enumerate(drafts):
        digest = text_hash(draft.embedded_text)
        chunks.append(Chunk(chunk_id(doc_id, digest, seen[digest]), doc_id, position, digest, draft))
        seen[digest] += 1
    return chunks
