"""A generation in PostgreSQL: one partition of ``index_entry``, one HNSW index on it.

Readers and writers address the partition itself, so that work on one generation never locks another's readers.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pgvector import HalfVector
from psycopg import sql

from rag_assets.database.generations import Generation
from rag_assets.models import Condition
from rag_assets.settings import IndexSettings
from rag_assets.stores import payload_index
from rag_assets.stores import vector_statements as statements
from rag_assets.stores.conditions import clause
from rag_assets.stores.graph_memory import build_megabytes
from rag_assets.stores.protocol import Applied, Connection, Row

__all__ = ["Applied", "Connection", "Row"]


def table(generation: Generation) -> sql.Identifier:
    """The partition that holds a generation."""
    return statements.table(generation.id)


def _index(generation: Generation) -> sql.Identifier:
    return sql.Identifier(f"index_entry_g{generation.id}_hnsw")


def _typed(generation: Generation) -> sql.SQL:
    """The column with its dimension, as the index has it. ``dimension`` is an int column, never user text."""
    return sql.SQL(f"(embedding::halfvec({int(generation.dimension)}))")


def create(connection: Connection, generation: Generation) -> None:
    """Make the generation's partition if it is not there.

    LIKE and ATTACH instead of PARTITION OF: attaching locks out neither readers nor writers of the parent.
    """
    exists = connection.execute("SELECT to_regclass(%s)", (f"rag.index_entry_g{generation.id}",)).fetchone()
    if exists is not None and exists[0] is not None:
        return
    name, dimension = table(generation), sql.Literal(int(generation.dimension))
    connection.execute(sql.SQL("CREATE TABLE {} (LIKE index_entry INCLUDING ALL)").format(name))
    connection.execute(
        sql.SQL(
            "ALTER TABLE {name} ALTER COLUMN embedding SET STORAGE PLAIN,"
            " ADD CHECK (generation_id = {id}), ADD CHECK (vector_dims(embedding) = {dimension}),"
            # No vector of another model gets in, whatever a statement joins; IS NOT DISTINCT: a CHECK lets NULL pass.
            " ADD CONSTRAINT index_entry_embedder CHECK (embedder_fp IS NOT DISTINCT FROM {embedder})"
        ).format(
            name=name,
            id=sql.Literal(generation.id),
            dimension=dimension,
            embedder=sql.Literal(generation.key.embedder_fp),
        )
    )
    connection.execute(
        sql.SQL("ALTER TABLE index_entry ATTACH PARTITION {} FOR VALUES IN ({})").format(
            name, sql.Literal(generation.id)
        )
    )


def drop(connection: Connection, generation: Generation) -> None:
    """Delete a generation that is not live, rows, index and record."""
    connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table(generation)))
    connection.execute("DELETE FROM promotion WHERE to_generation = %s OR from_generation = %s", (generation.id,) * 2)
    connection.execute("DELETE FROM generation WHERE id = %s AND state <> 'live'", (generation.id,))


# What a row shows of its document and place; the document's own metadata never hides these keys.
PAYLOAD = """
    d.metadata || jsonb_build_object(
        'document', s.uri, 'title', coalesce(nullif(d.title, ''), s.uri), 'headings', c.headings, 'page', c.page, 'kinds', c.kinds,
        'position', c.position, 'start', c.start_offset, 'end', c.end_offset, 'tokens', c.tokens)
"""


def apply(connection: Connection, generation: Generation, doc_ids: Sequence[str]) -> Applied:
    """Make the generation's rows of these documents equal to their chunks; a document without chunks, or one that
    is gone though its chunks are still there, loses its rows.

    Runs wholly inside the server: no text and no vector travels. Rows that are already right are not written.
    """
    parameters = {
        "generation": generation.id,
        "chunker": generation.key.chunker_fp,
        "embedder": generation.key.embedder_fp,
        "documents": list(doc_ids),
    }
    removed = connection.execute(
        sql.SQL(
            """
            DELETE FROM {table} e WHERE doc_id = ANY(%(documents)s) AND NOT EXISTS (
                SELECT 1 FROM chunk c JOIN document d USING (doc_id)
                WHERE c.chunker_fp = %(chunker)s AND c.chunk_id = e.chunk_id)
            RETURNING chunk_id
            """
        ).format(table=table(generation)),
        parameters,
    ).fetchall()
    written = connection.execute(
        sql.SQL(
            """
            INSERT INTO {table} AS e (generation_id, chunk_id, doc_id, text_hash, text, payload, embedding, embedder_fp)
            SELECT %(generation)s, c.chunk_id, c.doc_id, c.text_hash, c.text, {payload}, v.vector::halfvec, v.embedder_fp
            FROM chunk c
            JOIN document d USING (doc_id)
            JOIN source_file s USING (doc_id)
            JOIN embedding v ON v.embedder_fp = %(embedder)s AND v.text_hash = c.text_hash
            WHERE c.chunker_fp = %(chunker)s AND c.doc_id = ANY(%(documents)s)
            ORDER BY c.doc_id, c.position
            ON CONFLICT (generation_id, chunk_id) DO UPDATE SET payload = EXCLUDED.payload, text = EXCLUDED.text, embedder_fp = EXCLUDED.embedder_fp
                WHERE (e.payload, e.text) IS DISTINCT FROM (EXCLUDED.payload, EXCLUDED.text)
            RETURNING chunk_id, (xmax = 0)
            """
        ).format(table=table(generation), payload=sql.SQL(PAYLOAD)),
        parameters,
    ).fetchall()
    added = tuple(chunk_id for chunk_id, is_new in written if is_new)
    return Applied(
        added=len(added),
        updated=len(written) - len(added),
        removed=len(removed),
        added_ids=added,
        removed_ids=tuple(row[0] for row in removed),
        updated_ids=tuple(chunk_id for chunk_id, is_new in written if not is_new),
    )


def delete(connection: Connection, generation: Generation, doc_ids: Sequence[str]) -> list[str]:
    """Delete every row of these documents; returns their chunk ids."""
    rows = connection.execute(
        sql.SQL("DELETE FROM {} WHERE doc_id = ANY(%s) RETURNING chunk_id").format(table(generation)), (list(doc_ids),)
    ).fetchall()
    return [row[0] for row in rows]


def build_index(connection: Connection, generation: Generation, settings: IndexSettings) -> bool:
    """Build the HNSW index if the generation has none; returns whether it did. Does not block readers of others.

    The indexes of the payload are built with it, and for a generation of an earlier release, which has none, by itself.
    """
    payload_index.build(connection, generation)
    if has_index(connection, generation):
        return False
    # Two runs may want to build it; CREATE INDEX alone would let both begin, and fail the second.
    connection.execute(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(table(generation)))
    if has_index(connection, generation):
        return False
    _give_memory(connection, generation, settings.m)
    connection.execute(
        sql.SQL(
            "CREATE INDEX {index} ON {table} USING hnsw ({column} halfvec_cosine_ops)"
            " WITH (m = {m}, ef_construction = {ef})"
        ).format(
            index=_index(generation),
            table=table(generation),
            column=_typed(generation),
            m=sql.Literal(settings.m),
            ef=sql.Literal(settings.ef_construction),
        )
    )
    connection.execute(sql.SQL("ANALYZE {}").format(table(generation)))
    return True


def rebuild_index(connection: Connection, generation: Generation) -> None:
    """Build the HNSW graph again from the rows. Readers wait while it is built: use it for a damaged graph only."""
    _give_memory(connection, generation, int(generation.config["index"]["m"]))
    connection.execute(sql.SQL("REINDEX INDEX {}").format(_index(generation)))


def _give_memory(connection: Connection, generation: Generation, m: int) -> None:
    """As much as building the graph takes; how many processes build it is the server's own setting."""
    megabytes = build_megabytes(count(connection, generation), generation.dimension, m)
    connection.execute(sql.SQL("SET LOCAL maintenance_work_mem = {}").format(sql.Literal(f"{megabytes}MB")))


def has_index(connection: Connection, generation: Generation) -> bool:
    """True when the generation has a valid HNSW index."""
    row = connection.execute(
        "SELECT i.indisvalid FROM pg_index i WHERE i.indexrelid = to_regclass(%s)",
        (f"rag.index_entry_g{generation.id}_hnsw",),
    ).fetchone()
    return bool(row and row[0])


def count(connection: Connection, generation: Generation) -> int:
    """Rows of the generation."""
    row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(table(generation))).fetchone()
    return int(row[0]) if row else 0


def size_bytes(connection: Connection, generation: Generation) -> int:
    """Bytes on disk, index included."""
    row = connection.execute(
        "SELECT pg_total_relation_size(to_regclass(%s))", (f"rag.index_entry_g{generation.id}",)
    ).fetchone()
    return int(row[0] or 0) if row else 0


def index_bytes(connection: Connection, generation: Generation) -> int:
    """Bytes of the HNSW graph; 0 when there is none."""
    row = connection.execute(
        "SELECT pg_relation_size(to_regclass(%s))", (f"rag.index_entry_g{generation.id}_hnsw",)
    ).fetchone()
    return int(row[0] or 0) if row else 0


def sample_vectors(connection: Connection, generation: Generation, limit: int) -> npt.NDArray[np.float32]:
    """Up to ``limit`` stored vectors, always the same ones while rows are (chunk ids are hashes, so their order is random)."""
    rows = connection.execute(
        sql.SQL("SELECT embedding FROM {} ORDER BY chunk_id LIMIT %s").format(table(generation)), (limit,)
    ).fetchall()
    return np.asarray([row[0].to_numpy() for row in rows], dtype=np.float32).reshape(-1, generation.dimension)


def fetch(
    connection: Connection,
    generation: Generation,
    chunk_ids: Sequence[str],
    vector: npt.NDArray[np.float32] | None = None,
) -> dict[str, Row]:
    """Rows by id; ``dense`` is the cosine similarity to ``vector``, nan without one."""
    half = HalfVector(vector) if vector is not None else None
    return {row[0]: Row._make(row) for row in statements.rows(connection, generation, chunk_ids, half).fetchall()}


def similarities(
    connection: Connection, generation: Generation, chunk_ids: Sequence[str], vector: npt.NDArray[np.float32] | None
) -> dict[str, float]:
    """Cosine similarity of rows, named by id, to a unit vector."""
    if vector is None or not chunk_ids:
        return {}
    return dict(statements.similarities(connection, generation, chunk_ids, HalfVector(vector)).fetchall())


def nearest_rows(
    connection: Connection, generation: Generation, vector: npt.NDArray[np.float32], k: int, *, ef_search: int = 100
) -> list[Row]:
    """The rows that :func:`nearest` finds, whole, in the same statement."""
    statements.set_beam(connection, k, ef_search)
    return [Row._make(row) for row in statements.nearest_rows(connection, generation, HalfVector(vector), k).fetchall()]


def nearest_if_live(
    connection: Connection, generation: Generation, vector: npt.NDArray[np.float32], k: int
) -> list[Row]:
    """The same in one statement, no transaction around it, with the beam the connection keeps; nothing, if the generation is not live."""
    answer = statements.nearest_if_live(connection, generation, HalfVector(vector), k)
    return [Row._make(row) for row in answer.fetchall()]


def nearest(
    connection: Connection,
    generation: Generation,
    vector: npt.NDArray[np.float32],
    k: int,
    *,
    ef_search: int = 100,
    exact: bool = False,
    filters: Sequence[Condition] = (),
) -> list[tuple[str, float]]:
    """(chunk id, cosine similarity) of the ``k`` rows nearest to a unit vector, nearest first; call inside a transaction.

    With ``exact`` the index is not used: the reference that recall is measured against. With ``filters`` the index is walked
    until k rows pass them (pgvector's iterative scan, strict order), or it gives up: after hnsw.max_scan_tuples (20,000)
    rows, or for want of memory. :mod:`filtered` decides when that is a good way.
    """
    statements.set_beam(connection, k, ef_search, exact=exact)
    if not filters and not exact:
        return statements.nearest(connection, generation, HalfVector(vector), k).fetchall()
    condition = clause(filters)
    where = sql.SQL("WHERE {}").format(condition.sql) if filters else sql.SQL("")
    statement = sql.SQL(
        "SELECT chunk_id, 1 - ({column} <=> %(vector)s) FROM {table} {where} ORDER BY {column} <=> %(vector)s LIMIT %(k)s"
    ).format(column=_typed(generation), table=table(generation), where=where)
    parameters = {"vector": HalfVector(vector), "k": k, **condition.parameters}
    return connection.execute(statement, parameters, binary=True).fetchall()
