"""Lexical search: equal to bm25s on real data, and what it costs beside the bare pgvector query.

    python evals/benchmarks/lexical.py --data /work/shared/data     # rank for rank against bm25s, set by set
    python evals/benchmarks/lexical.py --chunks 100000              # p50/p95, bytes per chunk, rows indexed per second

Both work on an embedded server of their own in a temporary folder. The times of the two queries are taken in turn within one
run, so that their ratio holds on a loaded machine; the times themselves don't.
"""

import argparse
import json
import random
import shutil
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bm25s
import numpy as np
import psycopg
import Stemmer
from psycopg import sql

from rag_assets.database import generations
from rag_assets.database.embedded import embedded
from rag_assets.database.generations import Generation, GenerationKey
from rag_assets.database.pool import Database
from rag_assets.fingerprint import hash_parts
from rag_assets.retrieval.candidates import Asked, find
from rag_assets.settings import IndexSettings, LexicalSettings, RetrievalSettings
from rag_assets.stores import lexical, lexical_segments, pgvector
from rag_assets.stores.analysis import analyzer, stop_list
from rag_assets.stores.postgres import PostgresSearcher

K = 10
LANGUAGES = {"de": "german", "es": "spanish", "ru": "russian", "ar": "arabic", "hi": "hindi"}
SETS = ["scifact", "cranfield", "hotpot", "product-docs", "chunking", "xquad-en", "xquad-de", "xquad-es", "xquad-ru", "xquad-zh",
        "xquad-ar", "xquad-hi"]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of development sets (documents/ and questions.jsonl each)")
    parser.add_argument("--sets", nargs="*", default=SETS)
    parser.add_argument("--chunks", type=int, default=0)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--queries", type=int, default=500)
    options = parser.parse_args()
    with server() as database:
        if options.data:
            compare(database, options.data, options.sets)
        if options.chunks:
            measure(database, options.chunks, options.dimension, options.queries)


@contextmanager
def server() -> Iterator[Database]:
    root = Path(tempfile.mkdtemp(prefix="rag-lexical-"))
    root.chmod(0o711)
    held = embedded(root / "home")
    try:
        database = Database(held.acquire())
        yield database
        database.close()
    finally:
        held.release()
        shutil.rmtree(root, ignore_errors=True)


def begin(database: Database, name: str, dimension: int) -> Generation:
    config = {"lexical": {"language": "auto", "stop_words": True}}
    with database.transaction() as connection:
        made = generations.create(connection, name, GenerationKey("c", "e", name), config, dimension)
        pgvector.create(connection, made)
        lexical.create(connection, made)
        return made


def load(database: Database, generation: Generation, texts: Mapping[str, str], vectors: Any) -> float:
    """Write rows and their posting lists, 10,000 a transaction; returns the seconds the posting lists took."""
    items, seconds = list(texts.items()), 0.0
    for start in range(0, len(items), 10_000):
        part = items[start : start + 10_000]
        with database.transaction() as connection:
            statement = sql.SQL("COPY {} FROM STDIN (FORMAT BINARY)").format(pgvector.table(generation))
            with connection.cursor().copy(statement) as copy:
                copy.set_types(["int8", "text", "text", "text", "text", "jsonb", "halfvec", "text"])
                for number, (chunk_id, text) in enumerate(part, start=start):
                    payload = psycopg.types.json.Jsonb({"document": chunk_id})
                    row = (generation.id, chunk_id, chunk_id, chunk_id, text, payload, vectors[number])
                    copy.write_row((*row, generation.key.embedder_fp))
            began = time.perf_counter()
            lexical.apply(connection, generation, [chunk_id for chunk_id, _ in part], [])
            seconds += time.perf_counter() - began
    with database.transaction() as connection:
        began = time.perf_counter()
        lexical.optimise(connection, generation)
        seconds += time.perf_counter() - began
    return seconds


# ---------------------------------------------------------------------------------------------- equality


def units(folder: Path) -> dict[str, str]:
    """Name -> text of what is ranked: whole documents; long ones in paragraphs of at least 400 characters."""
    texts = {}
    for path in sorted((folder / "documents").rglob("*")):
        if path.suffix not in (".txt", ".md"):
            continue
        text = unicodedata.normalize("NFC", path.read_text(encoding="utf-8"))
        name = path.relative_to(folder / "documents").as_posix()
        if folder.name != "chunking":
            texts[name] = text
            continue
        part = ""
        for line in text.split("\n"):
            part += line + "\n"
            if len(part) >= 400:
                texts[f"{name}#{len(texts)}"], part = part, ""
        texts[f"{name}#{len(texts)}"] = part
    return texts


def compare(database: Database, data: Path, sets: Sequence[str]) -> None:
    """Two references: bm25s over the terms of our analyzer (the index and the arithmetic), and bm25s with its own tokenizer (all of it)."""
    print("| set | units | questions | same terms: same ranking | largest difference of scores "
          "| bm25s' own tokenizer: same ranking | nDCG@10 ours | nDCG@10 bm25s |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|")
    for name in sets:
        texts = units(data / name)
        questions = [json.loads(line) for line in (data / name / "questions.jsonl").read_text("utf-8").splitlines()]
        ids = {hash_parts([unit]): unit for unit in texts}
        generation = begin(database, name.replace(".", "-"), 4)
        load(database, generation, dict(zip(ids, texts.values(), strict=True)), halves(len(texts), 4))
        print(
            "|", " | ".join(str(cell) for cell in (name, *row(database, generation, ids, texts, questions, name))), "|"
        )


def row(
    database: Database,
    generation: Generation,
    ids: Mapping[str, str],
    texts: Mapping[str, str],
    questions: Any,
    name: str,
) -> list[Any]:
    chosen = analyzer(LexicalSettings())
    languages: dict[int, int] = {}
    terms = []
    for text in texts.values():
        analysis = chosen.analyze(text)
        terms.append(analysis.terms)
        languages[analysis.language] = languages.get(analysis.language, 0) + 1
    same_terms = reference(terms)
    language = LANGUAGES.get(name[-2:], "english")
    own_tokens = tokenizer(language)
    own = reference(own_tokens(list(texts.values()))) if name != "xquad-zh" else None
    equal = equal_own = 0
    difference, mine, theirs = 0.0, [], []
    for question in questions:
        with database.transaction(snapshot=True) as connection:
            found = lexical.search(connection, generation, question["question"], K).matches
        scores = same_terms(chosen.analyze_query(question["question"], languages))
        same, gap = ranks_equal(found, scores, list(ids))
        equal, difference = equal + same, max(difference, gap)
        mine.append(quality([ids[match.chunk_id] for match in found], question))
        if own is not None:
            scores = own(own_tokens([question["question"]])[0])
            equal_own += ranks_equal(found, scores, list(ids))[0]
            best = sorted(np.flatnonzero(scores), key=lambda n: (-scores[n], list(ids)[n]))[:K]
            theirs.append(quality([list(texts)[n] for n in best], question))
    total = len(questions)
    return [len(texts), total, f"{equal} of {total}", f"{difference:.1e}", f"{equal_own} of {total}" if own else "–",
            f"{np.mean(mine):.4f}", f"{np.mean(theirs):.4f}" if own else "–"]  # fmt: skip


def tokenizer(language: str) -> Callable[[list[str]], list[list[str]]]:
    words: Any = "en" if language == "english" else sorted(stop_list(language))
    stemmer = Stemmer.Stemmer(language)
    return lambda texts: bm25s.tokenize(texts, stopwords=words, stemmer=stemmer, return_ids=False, show_progress=False)


def reference(terms: list[list[str]]) -> Callable[[list[str]], Any]:
    """Question terms -> scores of all units, by bm25s."""
    made = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    made.index(terms, show_progress=False)
    known = {term for row in terms for term in row}

    def scores(asked: list[str]) -> Any:
        asked = [term for term in asked if term in known]
        return made.get_scores(asked) if asked else np.zeros(len(terms), np.float32)

    return scores


def ranks_equal(found: Sequence[lexical.Match], scores: Any, ids: Sequence[str]) -> tuple[bool, float]:
    """Is it the reference's order (scores of its own within 1e-4 count as tied), and how far are ours from its scores?"""
    by_id = {ids[n]: float(scores[n]) for n in np.flatnonzero(scores)}
    best = sorted(by_id.values(), reverse=True)[:K]
    if len(best) != len(found):
        return False, float("inf")
    theirs = [by_id.get(match.chunk_id, 0.0) for match in found]
    same = all(abs(mine - score) < 1e-4 for mine, score in zip(theirs, best, strict=True))
    return same, max((abs(mine - match.score) for mine, match in zip(theirs, found, strict=True)), default=0.0)


def quality(names: Sequence[str], question: Mapping[str, Any]) -> float:
    """nDCG@10 over documents."""
    grades = {item["document"]: item.get("grade", 1) for item in question["relevant"]}
    documents = list(dict.fromkeys(name.split("#")[0] for name in names))
    gains = [grades.get(name, 0) for name in documents[:K]]
    ideal = sorted(grades.values(), reverse=True)[:K]

    def total(values: Sequence[float]) -> float:
        return sum(value / np.log2(rank + 2) for rank, value in enumerate(values))

    return total(gains) / total(ideal)


# ---------------------------------------------------------------------------------------------- speed


def halves(count: int, dimension: int) -> Any:
    from pgvector import HalfVector

    vectors = np.random.default_rng(0).standard_normal((count, dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return [HalfVector(vector) for vector in vectors]


def corpus(count: int) -> tuple[dict[str, str], list[str]]:
    """Texts of about 150 words whose frequencies follow Zipf's law with a long tail, and questions of 6 to 12 words of them."""
    chance = np.random.default_rng(1)
    ranks = np.arange(1, 400_001)
    weights = 1 / (ranks + 2.7) ** 1.07
    names = np.asarray([word(number) for number in ranks])
    sizes = chance.integers(90, 211, size=count)
    drawn = chance.choice(names.size, size=int(sizes.sum()), p=weights / weights.sum())
    ends = np.cumsum(sizes)
    texts, questions = {}, []
    for number, (end, size) in enumerate(zip(ends.tolist(), sizes.tolist(), strict=True)):
        words = drawn[end - size : end]
        texts[hash_parts([str(number)])] = " ".join(names[words])
        if number % (max(1, count // 1000)) == 0:
            asked = chance.choice(words, size=int(chance.integers(6, 13)), replace=False)
            questions.append(" ".join(names[asked]))
    random.Random(2).shuffle(questions)
    return texts, questions


STOPPED = (
    "the",
    "of",
    "and",
    "to",
    "in",
    "is",
    "for",
    "that",
    "with",
    "as",
    "by",
    "it",
    "are",
    "was",
    "be",
    "at",
    "this",
    "on",
)


def word(rank: int) -> str:
    """The word of a rank: function words first, then pronounceable nonsense that no stemmer cuts."""
    if rank <= len(STOPPED):
        return STOPPED[rank - 1]
    syllables, name = ["bo", "ka", "du", "mi", "zo", "ta", "ru", "pi", "lo", "gu"], ""
    for digit in str(rank):
        name += syllables[int(digit)]
    return name + "k"


def measure(database: Database, count: int, dimension: int, queries: int) -> None:
    texts, questions = corpus(count)
    generation = begin(database, "speed", dimension)
    seconds = load(database, generation, texts, halves(count, dimension))
    with database.transaction() as connection:
        pgvector.build_index(connection, generation, IndexSettings())
    table = lexical_segments.table(generation)
    with database.transaction() as connection:
        size: Any = connection.execute(
            sql.SQL(
                "SELECT pg_total_relation_size(%s::regclass), pg_relation_size(%s::regclass), pg_indexes_size(%s::regclass),"
                " (SELECT sum(octet_length(postings)) FROM {table}), (SELECT count(*) FROM {table}),"
                " (SELECT sum(octet_length(chunk_ids) + octet_length(lengths) + octet_length(languages)) FROM lexical_segment),"
                " (SELECT count(*) FROM lexical_segment)"
            ).format(table=table),
            (f"rag.{table._obj[0]}",) * 3,  # type: ignore[attr-defined]
        ).fetchone()
        rows = pgvector.size_bytes(connection, generation)
    print(f"{count:,} chunks, {size[4]:,} posting lists in {size[6]} segments")
    print(f"indexed in {seconds:.1f} s: {count / seconds:,.0f} chunks/s")
    print(f"bytes per chunk: {size[0] / count:.0f} (heap {size[1] / count:.0f}, indexes {size[2] / count:.0f}, postings "
          f"themselves {size[3] / count:.0f}) + {size[5] / count:.0f} of rows; the vectors' table and graph {rows / count:.0f}")  # fmt: skip
    timings(database, generation, questions, queries)


def timings(database: Database, generation: Generation, questions: Sequence[str], queries: int) -> None:
    """All ways of asking, in turn, each in a snapshot of its own that is open before its time begins and closed after it."""
    vectors = [halves_of(generation.dimension, seed) for seed in range(queries)]
    stages: dict[str, list[float]] = {}
    ways: dict[str, Callable[[psycopg.Connection[Any], int], Any]] = {
        "pgvector": lambda c, n: bare(c, generation, vectors[n % queries]),
        "dense": lambda c, n: pgvector.nearest_rows(c, generation, vectors[n % queries], K),
        "BM25": lambda c, n: lexical.search(c, generation, questions[n % len(questions)], K),
        # Another question than BM25's: its words' posting lists are in memory only where another question shares them.
        "hybrid": lambda c, n: hybrid(
            c, generation, Asked(questions[(n + len(questions) // 2) % len(questions)], vectors[n % queries]), stages
        ),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(-20, queries):
        if number == 0:
            stages.clear()
        for name, ask in ways.items():
            with database.transaction(snapshot=True, pipelined=name != "pgvector") as connection:
                # Before the clock starts, for everybody: who uses pgvector alone sets it once in a session.
                connection.execute(
                    "SELECT set_config('hnsw.ef_search', %s, true)", (str(max(K, IndexSettings().ef_search)),)
                ).fetchone()
                began = time.perf_counter()
                ask(connection, number)
                if number >= 0:
                    times[name].append((time.perf_counter() - began) * 1000)
    report(times, stages)


def report(times: Mapping[str, Sequence[float]], stages: Mapping[str, Sequence[float]]) -> None:
    print(
        f"pgvector: one statement, prepared, that brings the {K} whole rows; dense, hybrid: what a search does in its snapshot,"
    )
    print("rows of the hits included. Without embedding the question and without opening and closing the transaction.")
    print(
        "| query | p50 ms | p95 ms | p50 / pgvector's | p95 / pgvector's | p95 / dense's |\n|---|---|---|---|---|---|"
    )
    base = np.percentile(times["pgvector"], [50, 95])
    dense = float(np.percentile(times["dense"], 95))
    for name, values in times.items():
        p50, p95 = np.percentile(values, [50, 95])
        print(f"| {name} | {p50:.2f} | {p95:.2f} | {p50 / base[0]:.2f} | {p95 / base[1]:.2f} | {p95 / dense:.2f} |")
    print("| stage of hybrid | p50 ms | p95 ms |\n|---|---|---|")
    for name, values in stages.items():
        p50, p95 = np.percentile(values, [50, 95])
        print(f"| {name} | {p50:.2f} | {p95:.2f} |")


def bare(connection: psycopg.Connection[Any], generation: Generation, vector: Any) -> Any:
    """What somebody who has nothing but pgvector writes to get the same passages."""
    from pgvector import HalfVector

    statement = sql.SQL(
        "SELECT chunk_id, doc_id, text, payload, 1 - ({column} <=> %(vector)s) FROM {table}"
        " ORDER BY {column} <=> %(vector)s LIMIT {k}"
    ).format(
        column=sql.SQL(f"(embedding::halfvec({generation.dimension:d}))"),
        table=pgvector.table(generation),
        k=sql.Literal(K),
    )
    return connection.execute(statement, {"vector": HalfVector(vector)}, binary=True).fetchall()


def hybrid(
    connection: psycopg.Connection[Any], generation: Generation, asked: Asked, stages: dict[str, list[float]]
) -> Any:
    """What a search does in its snapshot: both sides, fused, and the rows of the hits."""
    searcher = PostgresSearcher(connection, generation)
    found = find(searcher, asked, K, RetrievalSettings(), LexicalSettings(), IndexSettings().ef_search)
    began = time.perf_counter()
    rows = pgvector.fetch(connection, generation, found.order, asked.vector)
    for stage, seconds in {**found.seconds, "rows": time.perf_counter() - began}.items():
        stages.setdefault(stage, []).append(seconds * 1000)
    return rows


def halves_of(dimension: int, seed: int) -> Any:
    vector = np.random.default_rng(seed + 10_000).standard_normal(dimension).astype(np.float32)
    return vector / np.linalg.norm(vector)


if __name__ == "__main__":
    main()
