"""What a system has in its tables, looked at from outside, and whether that is right."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import psycopg
from corpus import Corpus, Edit
from pgvector.psycopg import register_vector

ROWS = {
    "rag-assets": "SELECT chunk_id, payload ->> 'document', text, embedding FROM rag.index_entry JOIN rag.generation g"
    " ON g.id = generation_id WHERE g.state = 'live'",
    "llama-index": "SELECT node_id, metadata_ ->> 'document', text, embedding FROM data_chunks",
    "langchain": "SELECT langchain_id, langchain_metadata ->> 'source', content, embedding FROM chunks",
    "cocoindex": "SELECT id::text, document, text, embedding FROM chunks",
}
"""(id, document, text, vector) of every row that can answer."""


@dataclass(frozen=True, slots=True)
class Row:
    id: str
    document: str
    text: str


@dataclass(frozen=True, slots=True)
class Faults:
    """How the index differs from the folder; all 0 when it is right."""

    documents_missing: int = 0
    """Documents of the folder without a row."""
    documents_deleted: int = 0
    """Documents with rows that are not in the folder any more."""
    rows_of_deleted: int = 0
    rows_outdated: int = 0
    """Rows with words that their document has no more."""
    edits_missing: int = 0
    """Edited documents none of whose rows has the new word."""
    rows_repeated: int = 0
    """Rows beyond the first with the same document and text."""

    def total(self) -> int:
        return sum(asdict(self).values())

    def text(self) -> str:
        """Only what is not 0."""
        return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in asdict(self).items() if count) or "0"


def read(url: str, system: str, folder: str) -> tuple[list[Row], Any]:
    """The rows and their vectors, float32, of unit length."""
    with psycopg.connect(url) as connection:
        register_vector(connection)
        found = connection.execute(ROWS[system]).fetchall()
    rows = [Row(str(row[0]), _relative(row[1], folder), " ".join(row[2].split())) for row in found]
    vectors = [row[3].to_numpy() if hasattr(row[3], "to_numpy") else row[3] for row in found]
    matrix = np.asarray(vectors, np.float32)
    return rows, matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def faults(rows: Sequence[Row], corpus: Corpus, edits: Sequence[Edit]) -> Faults:
    """Compare the rows with the folder as it is."""
    wanted = {name for name in corpus.names() if corpus.text(name).strip()}
    held = {row.document for row in rows}
    texts: dict[str, list[str]] = {}
    for row in rows:
        texts.setdefault(row.document, []).append(row.text)
    valid = [edit for edit in edits if edit.document in wanted]
    return Faults(
        documents_missing=len(wanted - held),
        documents_deleted=len(held - wanted),
        rows_of_deleted=sum(row.document not in wanted for row in rows),
        rows_outdated=sum(edit.before in text for edit in valid for text in texts.get(edit.document, [])),
        edits_missing=sum(not any(edit.after in text for text in texts.get(edit.document, [])) for edit in valid),
        rows_repeated=len(rows) - len({(row.document, row.text) for row in rows}),
    )


def recall(ids: Sequence[str], vectors: Any, queries: Any, found: Sequence[Sequence[str]], k: int) -> list[float]:
    """recall@k of each query against exact search over the system's own vectors; rows as near as the k-th count as found."""
    place = {row_id: number for number, row_id in enumerate(ids)}
    values = []
    for query, hits in zip(queries, found, strict=True):
        scores = vectors @ query
        wanted = min(k, len(scores))
        floor = np.partition(scores, -wanted)[-wanted] - 1e-5
        values.append(sum(scores[place[hit]] >= floor for hit in set(hits) if hit in place) / wanted)
    return values


def _relative(name: str, folder: str) -> str:
    return str(PurePosixPath(name).relative_to(folder)) if name.startswith(folder) else name
