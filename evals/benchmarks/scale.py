"""Growth: the whole product at 1,000 to 100,000 chunks, and a million vectors stored and searched, as figures, a plot and exponents.

    python evals/benchmarks/scale.py --out scale.json --plot scale.png
    python evals/benchmarks/scale.py --sizes 1000 3000 10000
    python evals/benchmarks/scale.py --sizes --vectors 1000000          # vectors only
    python evals/benchmarks/scale.py --sizes --vectors 100000 --clusters 50

Every sync is a process of its own: Dagster's runs, parsing, chunking, BM25, HNSW, the checks before promotion. Only the model is
replaced, by one that hashes a text to a vector, so that what is seen to grow is ours.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import psycopg
import scale_report
from lexical import corpus
from peers.measuring import Peak, folder_bytes, measured, tree_pss

from rag_assets.database import generations
from rag_assets.database.embedded import embedded
from rag_assets.database.generations import GenerationKey
from rag_assets.database.location import existing_cluster
from rag_assets.database.pool import Database
from rag_assets.embedding.hardware import usable_cores
from rag_assets.evaluation.beam import beams
from rag_assets.models import Vectors
from rag_assets.settings import GateSettings, IndexSettings
from rag_assets.stores import pgvector
from rag_assets.stores.exact import best_similarities

CHUNKS_A_DOCUMENT = 5
DIMENSION, FACTORS = 384, 24
QUERIES, WARM_UP, ROUNDS, K = 200, 20, 3, 10
REPOSITORY = Path(__file__).resolve().parents[2]


class HashingEmbedder:
    """A text's hash decides its place in 24 dimensions, of which texts have fewer: what is searched is harder than a team's texts.

    With ``clusters`` a text lies around one of so many random points, as far from it in every dimension: HNSW then needs a wider beam.
    """

    name, dimension, max_tokens = "hashing", DIMENSION, 512
    fingerprint = tokenizer_fingerprint = "hashing-1"
    resolved = {"backend": "sentence-transformers", "model": "hashing", "dtype": "float32"}  # noqa: RUF012

    def __init__(self, clusters: int = 0) -> None:
        self._clusters = clusters
        chance = np.random.default_rng(0)
        self._factors = chance.standard_normal((FACTORS, DIMENSION)).astype(np.float32) / np.sqrt(FACTORS)

    def warm(self) -> None:
        pass

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [2 + len(re.findall(r"\w+|[^\w\s]", text)) for text in texts]

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        return self.vectors([int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) for text in texts])

    embed_queries = embed_documents

    def vectors(self, seeds: Sequence[int]) -> Vectors:
        """One unit vector per seed."""
        if not len(seeds):
            return np.empty((0, DIMENSION), np.float32)
        if self._clusters:
            return self._around(seeds)
        places = np.stack([np.random.default_rng(seed).standard_normal(FACTORS).astype(np.float32) for seed in seeds])
        rows = places @ self._factors
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)

    def _around(self, seeds: Sequence[int]) -> Vectors:
        def point(seed: int) -> Vectors:
            return np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)

        rows = np.stack([point(seed % self._clusters) + 0.7 * point(self._clusters + seed) for seed in seeds])
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def main() -> None:
    if len(sys.argv) > 1 and sys.argv[1] in ("sync", "search"):
        child(sys.argv[1])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1000, 3000, 10_000, 30_000, 100_000], help="chunks")
    parser.add_argument("--vectors", type=int, nargs="*", default=[], help="further vectors, stored and searched only")
    parser.add_argument("--clusters", type=int, default=0, help="of those vectors; 0: they have no clusters")
    parser.add_argument("--repeats", type=int, default=3, help="of the short steps; their median counts")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--plot", type=Path, default=REPOSITORY / ".rag" / "scale.png")
    options = parser.parse_args()
    result: dict[str, Any] = {"cores": usable_cores(), "load": os.getloadavg()[0]}
    result["rows"] = [in_a_folder(measure, size, options.repeats) for size in options.sizes]
    result["vectors"] = [in_a_folder(measure_vectors, count, options.clusters) for count in options.vectors]
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(scale_report.markdown(result))
    if len(result["rows"]) > 1:
        options.plot.parent.mkdir(parents=True, exist_ok=True)
        scale_report.plot(result["rows"], options.plot)
        print(f"plot: {options.plot}")


def in_a_folder(work: Any, size: int, option: int) -> dict[str, Any]:
    """Do it with a server of its own in a temporary folder."""
    root = Path(tempfile.mkdtemp(prefix="rag-scale-"))
    root.chmod(0o711)
    held = embedded(root / "home")
    try:
        url = held.acquire()
        cluster = existing_cluster(held.home)
        pid = cluster.postmaster() if cluster else None
        assert pid is not None
        found: dict[str, Any] = work(root, url, psutil.Process(pid), size, option)
        return found
    finally:
        held.release()
        shutil.rmtree(root, ignore_errors=True)


def measure(root: Path, url: str, server: psutil.Process, chunks: int, repeats: int) -> dict[str, Any]:
    """Every figure of one size."""
    questions = write_documents(root / "documents", chunks)
    (root / "questions.json").write_text(json.dumps(questions[:QUERIES]), encoding="utf-8")
    (root / "rag_assets.toml").write_text("[benchmark]\nenabled = false\n", encoding="utf-8")
    variables = {name: value for name, value in os.environ.items() if not name.startswith("RAG_")}
    variables |= {"RAG_HOME": str(root / "home"), "RAG_SOURCE": str(root / "documents")}

    def run(action: str) -> Any:
        command = [sys.executable, str(Path(__file__).resolve()), action]
        done = measured(command, environment=variables, folder=root, server=server)
        _say(f"{chunks:,} chunks: {action} {done.seconds:.1f} s")
        return done

    build = run("sync")
    no_ops = [run("sync").seconds for _ in range(repeats)]
    edited = next((root / "documents").rglob("*.md"))
    updates = []
    for number in range(repeats):
        edited.write_text(edited.read_text("utf-8").replace("the ", f"edit{number} ", 1), encoding="utf-8")
        updates.append(run("sync").seconds)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM")
        disk: Any = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    reply = build.reply
    stages = {name: seconds for name, seconds in reply["seconds"].items() if name != "total"}
    return {
        "chunks": reply["chunks"]["total"], "documents": reply["documents"]["added"],
        "build": {"seconds": build.seconds, "stages": stages, "client_mb": build.client_mb, "server_mb": build.server_mb},
        "no_op": statistics.median(no_ops), "one_document": statistics.median(updates),
        "search": run("search").reply, "disk_mb": (disk[0] + folder_bytes(root / "home" / "dagster")) / 1e6,
    }  # fmt: skip


def write_documents(folder: Path, chunks: int) -> list[str]:
    """Markdown files whose sections are a chunk each; returns questions of their words."""
    texts, questions = corpus(chunks)
    sections = list(texts.values())
    for number in range(0, chunks, CHUNKS_A_DOCUMENT):
        body = "\n\n".join(
            f"## Part {place} of {number}\n\n{text}."
            for place, text in enumerate(sections[number : number + CHUNKS_A_DOCUMENT])
        )
        path = folder / f"{number % 100:02d}" / f"document-{number:07d}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# Document {number}\n\n{body}\n", encoding="utf-8")
    return questions


def child(action: str) -> None:
    """A process of the product's: what ``rag-assets sync --json`` and a searching service do, with the hashing embedder."""
    from dataclasses import asdict

    from rag_assets.runtime import Runtime
    from rag_assets.settings import load_settings

    with Runtime(load_settings(), embedder=HashingEmbedder()) as runtime:
        if action == "sync":
            from rag_assets.cli.documents import run_sync

            report = run_sync(runtime, "default")
            if report.refused:
                raise SystemExit(report.refused)
            print(json.dumps(asdict(report)))
        else:
            print(json.dumps({mode: searched(runtime, mode) for mode in ("dense", "hybrid")}))


def searched(runtime: Any, mode: Any) -> dict[str, float]:
    """Milliseconds of a search, embedding of the question included (it is next to nothing here): medians of three rounds."""
    from rag_assets.retrieval.search import search

    settings = runtime.settings.retrieval.model_copy(update={"mode": mode})
    questions = json.loads(Path("questions.json").read_text(encoding="utf-8"))
    times = np.empty((ROUNDS, QUERIES))
    for number in range(-WARM_UP, times.size):
        began = time.perf_counter()
        search(runtime, questions[number % len(questions)], k=K, retrieval=settings)
        if number >= 0:
            times.flat[number] = (time.perf_counter() - began) * 1000
    p50, p95 = np.median(np.percentile(times, [50, 95], axis=1), axis=1)
    return {"p50": float(p50), "p95": float(p95)}


def measure_vectors(root: Path, url: str, server: psutil.Process, count: int, clusters: int) -> dict[str, Any]:
    """Vectors in a generation's partition, without documents: binary COPY, HNSW, dense search with the narrowest beam, from the
    default on, whose recall is enough to go live."""
    embedder, database = HashingEmbedder(clusters), Database(url)
    with database.transaction() as connection:
        generation = generations.create(connection, "vectors", GenerationKey("c", "e", "i"), {}, DIMENSION)
        pgvector.create(connection, generation)
    with Peak(lambda: tree_pss(server)) as memory:
        began = time.perf_counter()
        for start in range(0, count, 20_000):
            copy_rows(database, generation, range(start, min(count, start + 20_000)), embedder)
            _say(f"{start:,} of {count:,} vectors stored")
        copied = time.perf_counter()
        with database.transaction() as connection:
            pgvector.build_index(connection, generation, IndexSettings())
        built = time.perf_counter()
    asked = embedder.vectors([10**12 + number for number in range(QUERIES)])
    with database.transaction(snapshot=True) as connection:
        floors = best_similarities(connection, generation, asked, K)[:, -1] - 1e-5
        size = pgvector.size_bytes(connection, generation)
    compared = time.perf_counter()
    tried = []
    for beam in beams(IndexSettings().ef_search):
        # Twice: a search whose pages nobody has read is another matter.
        for _ in range(2):
            found = [_search(database, generation, vector, beam) for vector in asked]
        recalls = [sum(row.dense >= floor for row in rows) / K for (_, rows), floor in zip(found, floors, strict=True)]
        p50, p95 = np.percentile([milliseconds for milliseconds, _ in found], [50, 95])
        tried.append({"beam": beam, "recall": float(np.mean(recalls)), "p50": float(p50), "p95": float(p95)})
        _say(str(tried[-1]))
        if (
            np.mean(recalls) >= GateSettings().ann_recall_mean
            and np.percentile(recalls, 5) >= GateSettings().ann_recall_p05
        ):
            break
    database.close()
    return {
        "vectors": count, "clusters": clusters, "copy_seconds": copied - began, "index_seconds": built - copied,
        "exact_seconds": compared - built, **tried[-1], "tried": tried, "disk_mb": size / 1e6, "server_mb": memory.bytes / 1e6,
    }  # fmt: skip


def _search(database: Database, generation: Any, vector: Any, beam: int) -> tuple[float, Any]:
    """(milliseconds, rows) of one search."""
    with database.transaction(snapshot=True, pipelined=True) as connection:
        started = time.perf_counter()
        rows = pgvector.nearest_rows(connection, generation, vector, K, ef_search=beam)
        return (time.perf_counter() - started) * 1000, rows


def copy_rows(database: Database, generation: Any, numbers: range, embedder: HashingEmbedder) -> None:
    """Rows of these numbers, in one transaction."""
    from pgvector import HalfVector
    from psycopg.types.json import Jsonb

    vectors = embedder.vectors([number * 2_654_435_761 for number in numbers])
    statement = psycopg.sql.SQL("COPY {} FROM STDIN (FORMAT BINARY)").format(pgvector.table(generation))
    with database.transaction() as connection, connection.cursor().copy(statement) as copy:
        copy.set_types(["int8", "text", "text", "text", "text", "jsonb", "halfvec", "text"])
        for number, vector in zip(numbers, vectors, strict=True):
            name = f"{number:016x}"
            payload = Jsonb({"document": f"{number // CHUNKS_A_DOCUMENT}.md"})
            row = (generation.id, name, name, name, "stored only", payload, HalfVector(vector))
            copy.write_row((*row, generation.key.embedder_fp))


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
