"""CocoIndex: a flow from a folder to PostgreSQL, memoised by file, its state in LMDB."""

from protocol import K, STARTED, request, run  # isort: skip  (the clock starts here)

import asyncio
import pathlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import asyncpg
import cocoindex as coco
from cocoindex.connectors import localfs, postgres
from cocoindex.ops.sentence_transformers import SentenceTransformerEmbedder
from cocoindex.ops.text import RecursiveSplitter
from cocoindex.resources.file import FileLike
from cocoindex.resources.id import IdGenerator
from numpy.typing import NDArray

TABLE = "chunks"
CHARACTERS_PER_TOKEN = 4
"""Its splitter counts bytes, not tokens."""
ASKED = request()
DATABASE = coco.ContextKey[asyncpg.Pool]("peers_database")
EMBEDDER = coco.ContextKey[SentenceTransformerEmbedder]("embedder", detect_change=True)
SPLITTER = RecursiveSplitter()


@coco.lifespan
async def lifespan(builder: coco.EnvironmentBuilder) -> AsyncIterator[None]:
    builder.settings.db_path = pathlib.Path(ASKED["state"]) / "cocoindex.db"
    async with asyncpg.create_pool(ASKED["url"]) as pool:
        builder.provide(DATABASE, pool)
        builder.provide(EMBEDDER, SentenceTransformerEmbedder(ASKED["model"], device="cpu"))
        yield


@dataclass
class Row:
    id: int
    document: str
    text: str
    embedding: Annotated[NDArray, EMBEDDER]


@coco.fn
async def one_chunk(chunk: Any, document: str, ids: IdGenerator, table: Any) -> None:
    vector = await coco.use_context(EMBEDDER).embed(chunk.text)
    table.declare_row(row=Row(await ids.next_id(chunk.text), document, chunk.text, vector))


@coco.fn(memo=True)
async def one_file(file: FileLike, table: Any) -> None:
    chunks = SPLITTER.split(
        await file.read_text(),
        chunk_size=ASKED["chunk_tokens"] * CHARACTERS_PER_TOKEN,
        chunk_overlap=ASKED["overlap_tokens"] * CHARACTERS_PER_TOKEN,
        language="markdown",
    )
    await coco.map(one_chunk, chunks, file.file_path.path.as_posix(), IdGenerator(), table)


@coco.fn
async def flow(folder: pathlib.Path) -> None:
    table = await postgres.mount_table_target(
        DATABASE, table_name=TABLE, table_schema=await postgres.TableSchema.from_class(Row, primary_key=["id"])
    )
    table.declare_vector_index(
        column="embedding", metric="cosine", method="hnsw", m=ASKED["m"], ef_construction=ASKED["ef_construction"]
    )
    await coco.mount_each(one_file, localfs.walk_dir(folder, recursive=True).items(), table)


def update(asked: dict[str, Any]) -> dict[str, float]:
    imported = time.perf_counter()
    # The model loads inside of it, when something is embedded.
    app = coco.App(coco.AppConfig(name="peers"), flow, pathlib.Path(asked["folder"]))
    app.update_blocking()
    return {"import": imported - STARTED, "model": 0.0, "work": time.perf_counter() - imported}


class Searcher:
    """It has no query interface: its documentation searches by SQL through asyncpg, and so does this."""

    def __init__(self, asked: dict[str, Any]) -> None:
        from pgvector.asyncpg import register_vector

        self.loop = asyncio.new_event_loop()
        self.pool = self.loop.run_until_complete(
            asyncpg.create_pool(asked["url"], min_size=1, init=register_vector, loop=self.loop)
        )
        self.model = SentenceTransformerEmbedder(asked["model"], device="cpu")
        self.model_itself = self.model._get_model()

    def embed(self, question: str) -> Sequence[float]:
        return self.model_itself.encode([question], normalize_embeddings=True, show_progress_bar=False)[0]

    def rows(self, vector: Sequence[float], ef: int) -> Any:
        import numpy

        return self.loop.run_until_complete(self._rows(numpy.asarray(vector, numpy.float32), ef))

    async def _rows(self, vector: Any, ef: int) -> Any:
        async with self.pool.acquire() as connection, connection.transaction():
            await connection.execute(f"SET LOCAL hnsw.ef_search = {ef}")
            return await connection.fetch(
                f"SELECT id, document, text, embedding <=> $1 AS distance FROM {TABLE} ORDER BY distance LIMIT $2",  # noqa: S608
                vector,
                K,
            )

    def find(self, vector: Sequence[float], ef: int) -> list[str]:
        return [str(row["id"]) for row in self.rows(vector, ef)]

    def ask(self, question: str, ef: int) -> list[str]:
        return [row["document"] for row in self.rows(self.embed(question), ef)]


if __name__ == "__main__":
    run(update, Searcher)
