"""Documents as a generation holds them: their text and their chunks, read from its own rows.

The ledger knows the present documents only. A generation that is followed (the live one, and the one the configuration asks for)
holds the same; any other is frozen as it was when it was replaced, but for what ``forget`` removes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from psycopg import sql

from rag_assets.database.generations import Generation
from rag_assets.fingerprint import fingerprint, hash_parts, text_hash
from rag_assets.runtime import Runtime
from rag_assets.stores import pgvector

Row = tuple[str, str, int, str]
"""Document, chunk id, where the chunk's text begins in the document's, that text."""


@dataclass(frozen=True, slots=True)
class DocumentState:
    """What a generation holds of one document, as hashes: equal ones mean equal."""

    text: str
    """Of its words, whatever the white space."""
    places: str
    """Of where its chunks begin and end."""
    chunks: str
    """Of the chunks' ids, and so of what is embedded: their text with title and headings."""
    count: int
    """Number of chunks."""


def is_frozen(runtime: Runtime, generation: Generation) -> bool:
    """Whether a generation no longer follows its documents."""
    if generation.is_live:
        return False
    target = runtime.target(generation.collection)
    return target is None or target.id != generation.id


def held_texts(runtime: Runtime, generation: Generation, documents: Sequence[str]) -> dict[str, str]:
    """The text of those of the documents (uris) that have rows, put together from its chunks, by uri.

    Every character stands where it does in the parsed document; white space that is in no chunk is a line break.
    """
    return {document: _joined(rows) for document, rows in _rows(runtime, generation, documents)}


def held_states(runtime: Runtime, generation: Generation, documents: Sequence[str]) -> dict[str, DocumentState]:
    """The state of those of the documents (uris) that have rows, by uri."""
    return {
        document: DocumentState(
            text=text_hash("".join(_joined(rows).split())),
            places=fingerprint(sorted((start, start + len(text)) for _, _, start, text in rows)),
            chunks=hash_parts(sorted(chunk_id for _, chunk_id, _, _ in rows)),
            count=len(rows),
        )
        for document, rows in _rows(runtime, generation, documents)
    }


def _rows(runtime: Runtime, generation: Generation, documents: Sequence[str]) -> Iterator[tuple[str, list[Row]]]:
    """The rows of each document, in the order in which they begin."""
    wanted = sorted(set(documents))
    with runtime.database.transaction(snapshot=True) as connection:
        found: list[Any] = connection.execute(
            sql.SQL(
                "SELECT payload ->> 'document', chunk_id, (payload ->> 'start')::int, text FROM {}"
                " WHERE payload ->> 'document' = ANY(%s) ORDER BY 1, 3, 2"
            ).format(pgvector.table(generation)),
            (wanted,),
        ).fetchall()
    for document, rows in groupby(found, key=lambda row: str(row[0])):
        yield document, list(rows)


def _joined(rows: Sequence[Row]) -> str:
    parts: list[str] = []
    reached = 0
    for _, _, start, text in rows:
        if start + len(text) <= reached:
            continue
        parts.append("\n" * max(start - reached, 0))
        parts.append(text[max(reached - start, 0) :])
        reached = start + len(text)
    return "".join(parts)
