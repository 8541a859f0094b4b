"""Both sides of a hybrid question: one after the other, or BM25 here while the server walks the graph."""

import time

from pgvector import HalfVector

from rag_assets.database.generations import Generation
from rag_assets.stores import lexical_search
from rag_assets.stores import vector_statements as statements
from rag_assets.stores.protocol import Connection, Found, HybridQuery, Near, Searcher, Sides


def in_turn(searcher: Searcher, asked: HybridQuery) -> Sides:
    """One side, then the other, then what each says of the other's finds."""
    began = time.perf_counter()
    near = searcher.nearest(asked.vector, asked.k, ef_search=asked.ef_search, exact=asked.exact, filters=asked.filters)
    walked = time.perf_counter()
    found = searcher.words(
        asked.question, asked.k, settings=asked.settings, near=near, filters=asked.filters, also=tuple(near.found)
    )
    scored = time.perf_counter()
    others = [match.chunk_id for match in found.matches if match.chunk_id not in near.found]
    similarities = searcher.similarities(others, asked.vector) if asked.similar else {}
    return Sides(near, found, similarities, {"dense": walked - began, "lexical": scored - walked})


def at_once(connection: Connection, generation: Generation, asked: HybridQuery) -> Sides:
    """The same without a filter: the graph's walk is under way while posting lists are scored, and the similarities of what they
    find are asked for before it ends; call inside a transaction, best one that is pipelined: in another, statements wait for each other.

    Raises:
        RagAssetsError: the generation has no lexical index.
    """
    assert asked.vector is not None
    began = time.perf_counter()
    half = HalfVector(asked.vector)
    statements.set_beam(connection, asked.k, asked.ef_search)
    postings = lexical_search.read(connection, generation, asked.question)
    walk = statements.nearest(connection, generation, half, asked.k)
    scores = postings.scores(asked.settings)
    matches = postings.best(scores, asked.k)
    bm25 = {match.chunk_id for match in matches}
    compared = statements.similarities(connection, generation, list(bm25), half) if asked.similar and bm25 else None
    scored = time.perf_counter()
    near = Near(dict(walk.fetchall()))
    others = postings.rows.scores_of(scores, [item for item in near.found if item not in bm25])
    similarities = dict(compared.fetchall()) if compared is not None else {}
    only = {item: value for item, value in similarities.items() if item not in near.found}
    seconds = {"lexical": scored - began, "dense": time.perf_counter() - scored}
    return Sides(near, Found(matches, others), only, seconds)
