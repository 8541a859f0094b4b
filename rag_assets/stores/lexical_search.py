"""BM25 over the lexical index, exactly: posting lists come from PostgreSQL, scores are computed here.

One statement brings the posting lists of the question's terms and the numbers of the segments that there are. What is needed of
the rows themselves (lengths, languages, ids, which are deleted) is kept per process, and read again only for segments it has not
seen; segments never change. Document frequency, number of rows and average length are counted over the rows that are alive,
so they are what they would be had the index been made from them alone.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from psycopg import sql

from rag_assets.database.generations import Generation
from rag_assets.errors import RagAssetsError
from rag_assets.models import Condition
from rag_assets.settings import LexicalSettings
from rag_assets.stores import filtered, pgvector
from rag_assets.stores import lexical_codec as codec
from rag_assets.stores import lexical_segments as segments
from rag_assets.stores.analysis import analyzer
from rag_assets.stores.conditions import clause
from rag_assets.stores.lexical_memory import Floats, Lists, Rows, last_rows, remember, remembered, rows_of
from rag_assets.stores.lexical_segments import Connection
from rag_assets.stores.protocol import Found, Match

MOST_LOOKED_AT = 2000
"""Best rows whose payload is looked at when there is a filter; if too few of them pass, all rows that pass are listed."""
_SPARE = 1.5
"""How many more are looked at than would hold k, were the rows that pass scattered evenly."""

_LOTS = 512
TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, slots=True)
class Postings:
    """What the database holds of a question's terms: all that scoring needs of it."""

    terms: Sequence[str]
    lists: Mapping[str, Lists]
    """Term -> its posting lists, with their segments."""
    rows: Rows
    """The rows they number."""

    def scores(self, weights: LexicalSettings) -> Floats:
        """(n,) BM25 of every row; a term the question repeats counts as often."""
        return _score(self.rows, self.lists, self.terms, weights)

    def best(self, scores: Floats, k: int) -> list[Match]:
        """The ``k`` highest scores above 0, equal ones by chunk id."""
        return _best(self.rows, scores, k)


def read(connection: Connection, generation: Generation, question: str) -> Postings:
    """Read what a question needs; call inside a transaction, best one with a snapshot.

    Raises:
        RagAssetsError: the generation was made before there was a lexical index.
    """
    own = segments.settings_of(generation)
    if own is None:
        raise RagAssetsError(
            f"{generation.name} has no lexical index: it was built by an earlier release. Run `rag-assets sync` to build "
            "one that has (nothing is embedded again), or search with mode dense."
        )
    # The languages decide the terms, and may have changed with a write since: then the terms are asked for once more.
    last = last_rows(generation)
    languages = last.languages if last is not None else {}
    terms = analyzer(own).analyze_query(question, languages)
    found, rows = _fetch(connection, generation, terms)
    if rows.languages != languages and (again := analyzer(own).analyze_query(question, rows.languages)) != terms:
        terms = again
        found, rows = _fetch(connection, generation, terms)
    return Postings(terms, found, rows)


def search(
    connection: Connection,
    generation: Generation,
    question: str,
    k: int,
    *,
    settings: LexicalSettings | None = None,
    filters: Sequence[Condition] = (),
    passing: Collection[str] | None = None,
    share: float = 0.1,
    also: Sequence[str] = (),
) -> Found:
    """The ``k`` rows with the highest BM25 score, highest first, equal scores by chunk id; rows that score 0 are left out.

    Call inside a transaction, best one with a snapshot.

    Args:
        connection: an open transaction.
        generation: the index; its own settings say how the question is analysed.
        question: in plain words.
        k: most rows that are returned.
        settings: ``k1`` and ``b``; None: the defaults.
        filters: what the payload must pass.
        passing: ids of all rows that pass ``filters``, where they are known already.
        share: about which share of the rows passes, more than 0: decides how it is searched, not what is found.
        also: chunk ids of rows whose score is wanted whatever it is.

    Raises:
        RagAssetsError: the generation was made before there was a lexical index.
    """
    postings = read(connection, generation, question)
    rows, scores = postings.rows, postings.scores(settings or LexicalSettings())
    if passing is not None:
        matches = _best(rows, scores, k, codec.places(rows.chunk_ids, codec.encode_known(list(passing))))
    elif filters:
        matches = _filtered(connection, generation, rows, scores, k, filters, share)
    else:
        matches = _best(rows, scores, k)
    return Found(matches, rows.scores_of(scores, also) if also else {})


def _fetch(connection: Connection, generation: Generation, terms: Sequence[str]) -> tuple[dict[str, Lists], Rows]:
    """(term -> its posting lists with their segments, the rows they number); lists that are in memory are not read again."""
    last = last_rows(generation)
    known = remembered(last, terms)
    missing = sorted(set(terms) - known.keys())
    found, rows = _read_lists(connection, generation, missing)
    if known and rows is not last:
        # There are other segments than those that memory is about.
        found, rows = _read_lists(connection, generation, sorted(set(terms)))
        known, missing = {}, sorted(set(terms))
    remember(rows, {term: found.get(term, ()) for term in missing})
    return {**known, **found}, rows


def _read_lists(connection: Connection, generation: Generation, terms: Sequence[str]) -> tuple[dict[str, Lists], Rows]:
    # One statement sees one state of the database, whatever the isolation level.
    answer = connection.execute(
        sql.SQL(
            "SELECT term, segment, postings FROM {} WHERE term = ANY(%s)"
            " UNION ALL SELECT NULL, id, NULL FROM lexical_segment WHERE generation_id = %s"
        ).format(segments.table(generation)),
        (list(terms), generation.id),
        binary=True,
    ).fetchall()
    found: dict[str, list[tuple[int, bytes]]] = {}
    present = []
    for term, segment, data in answer:
        if term is None:
            present.append(segment)
        else:
            found.setdefault(term, []).append((segment, data))
    return dict(found), rows_of(connection, generation, sorted(present))


def _score(rows: Rows, found: Mapping[str, Lists], terms: Sequence[str], weights: LexicalSettings) -> Floats:
    """(n,) BM25 of every row; a term the question repeats counts as often."""
    scores = np.zeros(rows.lengths.size, dtype=np.float32)
    norms = rows.norms(weights.k1, weights.b)
    for term, times in Counter(terms).items():
        parts = [(number, *codec.decode(data)) for number, data in found.get(term, ())]
        frequency = sum(
            numbers.size if segment in rows.whole else np.count_nonzero(rows.alive[rows.first[segment] :][numbers])
            for segment, numbers, _ in parts
        )
        idf = np.float32(times * np.log(1 + (rows.count - frequency + 0.5) / (frequency + 0.5)))
        for segment, numbers, counts in parts:
            # As wide as an address from the start: numpy would widen them in each of the steps.
            places = numbers.astype(np.intp)
            places += rows.first[segment]
            part = norms.take(places)
            # The same operations whether or not counts are stored: a score depends on the rows alone, to the last bit.
            weight: Any = np.float32(1) if counts is None else counts.astype(np.float32)
            part += weight
            np.divide(weight, part, out=part)
            part *= idf
            part += scores.take(places)
            scores[places] = part
    return scores


def _best(rows: Rows, scores: Floats, k: int, among: npt.NDArray[np.int64] | None = None) -> list[Match]:
    """The ``k`` highest scores above 0, equal ones by chunk id."""
    chosen = np.flatnonzero(scores >= _floor(scores, k)) if among is None else among[scores[among] > 0]
    if chosen.size > k:
        lowest = np.partition(scores[chosen], chosen.size - k)[chosen.size - k]
        chosen = chosen[scores[chosen] >= lowest]
    ids = codec.decode_ids(rows.chunk_ids[chosen]) if chosen.size else []
    ranked = sorted(zip((-scores[chosen]).tolist(), ids, strict=True))
    return [Match(chunk_id, -negative) for negative, chunk_id in ranked[:k]]


def _floor(scores: Floats, k: int) -> float:
    """A score above 0 that at least ``k`` rows reach, if so many are above 0.

    The rows are dealt into lots, many more than ``k``; each of the ``k`` best lots has a row as good as the worst of their best.
    """
    lots = max(_LOTS, 8 * k)
    if scores.size < 2 * lots:
        return TINY
    tops = scores[: scores.size // lots * lots].reshape(-1, lots).max(axis=0)
    return max(float(np.partition(tops, lots - k)[lots - k]), TINY)


def _filtered(
    connection: Connection,
    generation: Generation,
    rows: Rows,
    scores: Floats,
    k: int,
    filters: Sequence[Condition],
    share: float,
) -> list[Match]:
    """As :func:`_best` among the rows whose payload passes: as many of the best are looked at as will hold k, by ``share``."""
    looked_at = min(MOST_LOOKED_AT, round(_SPARE * k / share) + k)
    best = _best(rows, scores, looked_at)
    condition = clause(filters)
    statement = sql.SQL("SELECT chunk_id FROM {} WHERE generation_id = {} AND chunk_id = ANY(%(ids)s) AND {}").format(
        pgvector.table(generation), sql.Literal(generation.id), condition.sql
    )
    parameters = {"ids": [match.chunk_id for match in best], **condition.parameters}
    allowed = {row[0] for row in connection.execute(statement, parameters).fetchall()}
    kept = [match for match in best if match.chunk_id in allowed]
    if len(kept) >= k or len(best) < looked_at:
        return kept[:k]
    listed = filtered.passing(connection, generation, filters)
    return _best(rows, scores, k, codec.places(rows.chunk_ids, codec.encode_known(list(listed))))
