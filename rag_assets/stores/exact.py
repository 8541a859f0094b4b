"""Exact search for many vectors at once: what an approximate index is measured against.

One pass over the rows serves all of them, so that 200 exact searches of a million rows take seconds, not minutes. Every store keeps
its rows' vectors in PostgreSQL too, so that this is the reference for all of them.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from psycopg import sql

from rag_assets.database.generations import Generation
from rag_assets.models import Vectors
from rag_assets.stores.pgvector import table
from rag_assets.stores.protocol import Connection

_BLOCK_ROWS = 8192
"""Rows compared at once: some 12 MB of vectors with 384 numbers."""
_HEADER_BYTES = 19
"""Of PostgreSQL's binary COPY format, for a file without OIDs or extensions:
https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS"""


def best_similarities(
    connection: Connection, generation: Generation, vectors: Vectors, k: int
) -> npt.NDArray[np.float32]:
    """Cosine similarities of the ``k`` rows nearest to each vector, highest first.

    Args:
        connection: whose snapshot is searched.
        generation: whose rows.
        vectors: of the queries, shape (n, dimension); rounded to 16 bits, as a search rounds them.
        k: most rows for each; fewer when the generation has fewer.

    Returns:
        Shape (n, min(k, rows)).
    """
    queries = _unit(vectors.astype(np.float16).astype(np.float32))
    best = np.empty((len(queries), 0), np.float32)
    for block in _blocks(connection, generation):
        found = np.concatenate([best, queries @ _unit(block).T], axis=1)
        best = -np.partition(-found, k - 1, axis=1)[:, :k] if found.shape[1] > k else found
    return -np.sort(-best, axis=1)


def _unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Rounding to 16 bits changes a vector's length."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: npt.NDArray[np.float32] = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return unit


def _blocks(connection: Connection, generation: Generation) -> Iterator[npt.NDArray[np.float32]]:
    """Every row's vector, some at a time, shape (rows, dimension)."""
    row = np.dtype(
        [("fields", ">i2"), ("bytes", ">i4"), ("dimension", ">u2"), ("unused", ">u2"), ("values", ">f2", generation.dimension)]
    )  # fmt: skip
    statement = sql.SQL("COPY (SELECT embedding FROM {}) TO STDOUT (FORMAT BINARY)").format(table(generation))
    waiting, size = bytearray(), _BLOCK_ROWS * row.itemsize
    with connection.cursor().copy(statement) as copy:
        for data in copy:
            waiting += data
            if len(waiting) >= _HEADER_BYTES + size:
                yield np.frombuffer(waiting, row, _BLOCK_ROWS, _HEADER_BYTES)["values"].astype(np.float32)
                del waiting[_HEADER_BYTES : _HEADER_BYTES + size]
    rest = (len(waiting) - _HEADER_BYTES) // row.itemsize
    if rest > 0:
        yield np.frombuffer(waiting, row, rest, _HEADER_BYTES)["values"].astype(np.float32)
