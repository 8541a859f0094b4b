"""The oracle: what an index must hold, computed from the bytes of a folder and nothing else.

It shares with the product the functions that turn bytes into text and text into chunks, which have no state, and knows
neither plan nor ledger nor database.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from rag_assets.chunking import chunk_document, chunker_fingerprint, identify
from rag_assets.documents.names import SUPPORTED
from rag_assets.errors import UnparsableDocument
from rag_assets.fingerprint import document_id, hash_bytes
from rag_assets.indexing.raw_documents import document_hashes
from rag_assets.settings import ChunkingSettings
from rag_assets_tests.fakes import FakeEmbedder
from rag_assets_tests.faults.parsing import parsed

DIMENSION = 64
"""Of the fake embedder's vectors."""
Contents = Mapping[str, bytes]
"""Name and bytes of every document of a folder."""


@dataclass(frozen=True)
class Recipe:
    """How an index is cut and embedded."""

    chunking: ChunkingSettings
    model: str

    @property
    def chunker_fp(self) -> str:
        return chunker_fingerprint(self.chunking, _embedder(self.model))

    @property
    def embedder_fp(self) -> str:
        return _embedder(self.model).fingerprint


@dataclass(frozen=True)
class Row:
    """One row of an index, with all that it shows."""

    doc_id: str
    document: str
    text: str
    text_hash: str
    payload: str
    """JSON with sorted keys."""
    vector: bytes
    """Half-precision floats."""


@dataclass
class Wanted:
    """What there must be: of the ledger, of the chunks, of the index."""

    files: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    """doc_id: (uri, content hash, state)."""
    documents: dict[str, str] = field(default_factory=dict)
    """doc_id: document hash."""
    chunks: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """chunk_id: every other column."""
    rows: dict[str, Row] = field(default_factory=dict)
    vectors: dict[str, bytes] = field(default_factory=dict)
    """text hash: single-precision floats."""

    def of_document(self, doc_id: str) -> dict[str, Row]:
        return {chunk_id: row for chunk_id, row in self.rows.items() if row.doc_id == doc_id}


def contents(folder: Path) -> dict[str, bytes]:
    """The regular files of supported formats, by name relative to the folder."""
    found = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if path.suffix in SUPPORTED and not path.is_symlink():
                found[path.relative_to(folder).as_posix()] = path.read_bytes()
    return found


def wanted(documents: Contents, recipe: Recipe) -> Wanted:
    """The exact set of everything that must be stored for these documents."""
    result = Wanted()
    for name, data in documents.items():
        file, one = _of_document(name, data, recipe)
        result.files[document_id("default", name.encode())] = file
        for mine, its in (
            (result.documents, one.documents),
            (result.chunks, one.chunks),
            (result.rows, one.rows),
            (result.vectors, one.vectors),
        ):
            mine.update(its)  # type: ignore[arg-type]
    return result


@lru_cache(maxsize=20_000)
def _of_document(name: str, data: bytes, recipe: Recipe) -> tuple[tuple[str, str, str], Wanted]:
    doc_id, outcome = document_id("default", name.encode()), parsed(name, data)
    if isinstance(outcome, UnparsableDocument):
        return (name, hash_bytes(data), "quarantined"), Wanted()
    one = Wanted(documents={doc_id: document_hashes(outcome, name)[1]})
    embedder = _embedder(recipe.model)
    for chunk in identify(doc_id, chunk_document(outcome, recipe.chunking, embedder)):
        draft = chunk.draft
        vector = _vector(recipe.model, draft.embedded_text)
        payload = {
            **outcome.metadata,
            "document": name,
            "title": outcome.title or name,
            "headings": list(draft.headings),
            "page": draft.page,
            "kinds": list(draft.kinds),
            "position": chunk.position,
            "start": draft.start,
            "end": draft.end,
            "tokens": draft.tokens,
        }
        one.chunks[chunk.chunk_id] = (
            *(doc_id, chunk.position, chunk.text_hash, draft.text, draft.context, draft.start, draft.end),
            *(canonical(list(draft.headings)), draft.page, canonical(list(draft.kinds)), draft.tokens),
        )
        one.rows[chunk.chunk_id] = Row(
            doc_id, name, draft.text, chunk.text_hash, canonical(payload), vector.astype(np.float16).tobytes()
        )
        one.vectors[chunk.text_hash] = vector.tobytes()
    return (name, hash_bytes(data), "parsed"), one


def canonical(value: Any) -> str:
    """JSON in one spelling."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


@lru_cache
def _embedder(model: str) -> FakeEmbedder:
    return FakeEmbedder(version=model, dimension=DIMENSION)


@lru_cache(maxsize=50_000)
def _vector(model: str, text: str) -> "np.ndarray[Any, np.dtype[np.float32]]":
    return _embedder(model).vector(text)
