"""Filtered search: recall against exact search, and time, by the share of the rows that pass.

    python evals/benchmarks/filters.py --chunks 100000

Works on an embedded server of its own in a temporary folder. Vectors lie in clusters (a document's chunks in one), texts are those of
the lexical benchmark. A filter is scattered over the rows, or goes with the clusters: then its rows are near the question or all far
from it, which is what makes a graph miss some. Ways are timed in turn for each question, so that they can be compared on a loaded
machine; the times themselves don't hold there.
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from lexical import begin, corpus, server
from pgvector import HalfVector
from psycopg import sql
from psycopg.types.json import Jsonb

from rag_assets.database.generations import Generation
from rag_assets.database.pool import Database
from rag_assets.models import Condition
from rag_assets.retrieval.candidates import Asked
from rag_assets.retrieval.candidates import find as find_candidates
from rag_assets.retrieval.filters import parse_filters
from rag_assets.settings import IndexSettings, LexicalSettings, RetrievalSettings
from rag_assets.stores import filtered, lexical, pgvector

K = 10
FILTERS = (
    ("100 %", "scattered", "all=x"),
    ("67 %", "scattered", "third!=1"),
    ("33 %", "scattered", "third=1"),
    ("10 %", "scattered", "tenth=1"),
    ("1 %", "scattered", "hundredth=1"),
    ("0.1 %", "scattered", "thousandth=1"),
    ("50 %", "by cluster", "cluster<250"),
    ("10 %", "by cluster", "topic=topic 3"),
    ("1 %", "by cluster", "document^=folder 3/cluster 1"),
    ("0.1 %", "by document", "document=folder 4/cluster 54/554.md,folder 4/cluster 54/1054.md"),
    ("10 %", "range, no index", "score<10000"),
    ("1 %", "range, no index", "score<1000"),
    ("0.1 %", "range, no index", "score<100"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--queries", type=int, default=100)
    options = parser.parse_args()
    with server() as database:
        generation = begin(database, "filters", options.dimension)
        vectors = clustered(options.chunks, options.dimension)
        texts, questions = corpus(options.chunks)
        load(database, generation, texts, vectors)
        report_sizes(database, generation, options.chunks)
        queries = around(vectors, options.queries)
        print("| passes | filter | rows | way | recall@10 mean | min | p50 ms | p95 ms | exact p95 ms | BM25 p95 ms | hybrid p95 ms |")  # fmt: skip
        print("|---|---|---|---|---|---|---|---|---|---|---|")
        unfiltered(database, generation, queries, questions)
        for share, kind, written in FILTERS:
            cells = measure(database, generation, parse_filters([written]), queries, questions)
            print(f"| {share} {kind} | `{written}` | {' | '.join(cells)} |", flush=True)


def cluster_of(document: int) -> int:
    return document % 500


def clustered(count: int, dimension: int) -> Any:
    """Unit vectors: 500 centres; 20 rows a document, all around one centre."""
    chance = np.random.default_rng(0)
    centres = chance.standard_normal((500, dimension)).astype(np.float32)
    rows = centres[cluster_of(np.arange(count) // 20)]  # type: ignore[arg-type]
    rows = rows + 0.7 * chance.standard_normal((count, dimension)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def around(vectors: Any, count: int) -> Any:
    """Questions: near rows, but none of them."""
    chance = np.random.default_rng(1)
    chosen = vectors[chance.integers(0, len(vectors), count)]
    noise = chance.standard_normal(chosen.shape).astype(np.float32)
    moved = chosen + 0.7 * noise / np.linalg.norm(noise, axis=1, keepdims=True)
    return moved / np.linalg.norm(moved, axis=1, keepdims=True)


def payload(number: int, drawn: int) -> dict[str, Any]:
    document = number // 20
    cluster = cluster_of(document)
    return {
        "document": f"folder {cluster % 10}/cluster {cluster}/{document}.md", "title": f"Title {document}",
        "headings": [f"Chapter {document % 100}", f"Section {number % 20} of {document}"], "page": number % 20 + 1,
        "kinds": ["NarrativeText"], "position": number % 20, "start": number % 20 * 900, "end": number % 20 * 900 + 899,
        "tokens": 100 + drawn % 156, "type": ("md", "pdf", "docx")[document % 3], "language": "en",
        "date": f"20{document % 25:02d}-{document % 12 + 1:02d}-{document % 28 + 1:02d}",
        "all": "x", "third": drawn % 3, "tenth": drawn // 3 % 10, "hundredth": drawn // 7 % 100, "thousandth": drawn // 11 % 1000,
        "cluster": cluster, "topic": f"topic {cluster % 10}", "score": drawn % 100_000,
    }  # fmt: skip


def load(database: Database, generation: Generation, texts: dict[str, str], vectors: Any) -> None:
    drawn = np.random.default_rng(2).integers(0, 10**9, len(texts))
    items = list(texts.items())
    for start in range(0, len(items), 20_000):
        part = items[start : start + 20_000]
        with database.transaction() as connection:
            statement = sql.SQL("COPY {} FROM STDIN (FORMAT BINARY)").format(pgvector.table(generation))
            with connection.cursor().copy(statement) as copy:
                copy.set_types(["int8", "text", "text", "text", "text", "jsonb", "halfvec", "text"])
                for number, (chunk_id, text) in enumerate(part, start=start):
                    shown = Jsonb(payload(number, int(drawn[number])))
                    vector, model = HalfVector(vectors[number]), generation.key.embedder_fp
                    copy.write_row((generation.id, chunk_id, str(number // 20), chunk_id, text, shown, vector, model))
            lexical.apply(connection, generation, [chunk_id for chunk_id, _ in part], [])
    with database.transaction() as connection:
        lexical.optimise(connection, generation)
    with database.transaction() as connection:
        pgvector.build_index(connection, generation, IndexSettings())


def report_sizes(database: Database, generation: Generation, count: int) -> None:
    with database.transaction() as connection:
        for name in ("payload", "document", "hnsw"):
            row: Any = connection.execute(
                "SELECT pg_relation_size(%s::regclass)", (f"rag.index_entry_g{generation.id}_{name}",)
            ).fetchone()
            print(f"index {name}: {row[0] / count:.0f} bytes per chunk")


def timed(database: Database, work: Callable[[pgvector.Connection], Any], into: list[float]) -> Any:
    with database.transaction(snapshot=True) as connection:
        began = time.perf_counter()
        result = work(connection)
        into.append((time.perf_counter() - began) * 1000)
    return result


def unfiltered(database: Database, generation: Generation, queries: Any, questions: list[str]) -> None:
    bare: list[float] = []
    words: list[float] = []
    both: list[float] = []
    for number, vector in enumerate(queries):
        question = questions[number % len(questions)]
        timed(database, lambda c, v=vector: pgvector.nearest(c, generation, v, K), bare)
        timed(database, lambda c, q=question: lexical.search(c, generation, q, 100), words)
        timed(database, lambda c, q=question, v=vector: hybrid(c, generation, Asked(q, v)), both)
    p50, p95 = np.percentile(bare, [50, 95])
    others = [f"{np.percentile(times, 95):.1f}" for times in (words, both)]
    print(f"| no filter | | | index | | | {p50:.1f} | {p95:.1f} | | {' | '.join(others)} |", flush=True)


def hybrid(connection: pgvector.Connection, generation: Generation, asked: Asked) -> Any:
    return find_candidates(connection, generation, asked, K, RetrievalSettings(), LexicalSettings(), 100)


def measure(
    database: Database, generation: Generation, filters: tuple[Condition, ...], queries: Any, questions: list[str]
) -> list[str]:
    taken: list[float] = []
    exactly: list[float] = []
    words: list[float] = []
    both: list[float] = []
    recalls: list[float] = []
    ways: Counter[str] = Counter()
    passing = 0
    for number, vector in enumerate(queries):
        question = questions[number % len(questions)]
        found, _, plan = timed(database, lambda c, v=vector: filtered.find(c, generation, v, K, filters), taken)
        exact, listed, _ = timed(
            database, lambda c, v=vector: filtered.find(c, generation, v, K, filters, exact=True), exactly
        )
        timed(
            database,
            lambda c, q=question: find_candidates(
                c, generation, Asked(q, None, filters), 100, RetrievalSettings(mode="lexical"), LexicalSettings(), 100
            ),
            words,
        )
        timed(database, lambda c, q=question, v=vector: hybrid(c, generation, Asked(q, v, filters)), both)
        passing = len(listed)
        assert len(found) == min(K, passing)
        # By similarity, so that ties count as found.
        floor = min(exact.values()) - 1e-6
        recalls.append(sum(similarity >= floor for similarity in found.values()) / len(exact))
        ways[plan.way + (", fell back" if plan.fell_back else "")] += 1
    way = ", ".join(name if len(ways) == 1 else f"{name} {share}×" for name, share in ways.most_common())
    p50, p95 = np.percentile(taken, [50, 95])
    rest = [f"{np.percentile(times, 95):.1f}" for times in (exactly, words, both)]
    return [f"{passing:,}", way, f"{np.mean(recalls):.3f}", f"{min(recalls):.1f}", f"{p50:.1f}", f"{p95:.1f}", *rest]


if __name__ == "__main__":
    main()
