"""Which passages questions are drafted from: spread over what no question covers yet, the same for the same seed."""

import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from rag_assets.database.generations import Generation
from rag_assets.evaluation.golden.coverage import folder_of, type_of
from rag_assets.evaluation.golden.wording import length, words_of
from rag_assets.runtime import Runtime

LEAST_PASSAGE_WORDS = 25
"""A shorter passage holds nothing worth asking."""
_SPARE = 4
"""Documents looked at per passage wanted: some are too short."""


@dataclass(frozen=True, slots=True)
class Passage:
    """What a question is drafted from."""

    document: str
    """The document's uri."""
    text: str
    headings: tuple[str, ...] = ()


def sample_passages(
    runtime: Runtime, generation: Generation, covered: Collection[str], wanted: int, seed: int
) -> list[Passage]:
    """Up to ``wanted`` passages of the generation's chunks; those of documents not ``covered`` first.

    No document gives a second passage before each of its group has given one.
    """
    with runtime.database.transaction(snapshot=True) as connection:
        uris = [
            row[0]
            for row in connection.execute(
                "SELECT s.uri FROM document d JOIN source_file s USING (doc_id) WHERE s.collection = %s",
                (generation.collection,),
            ).fetchall()
        ]
        groups = [spread_documents([uri for uri in uris if (uri in covered) is known], seed) for known in (False, True)]
        looked_at = [*groups[0], *groups[1]][: wanted * _SPARE]
        rows = connection.execute(
            "SELECT s.uri, c.text, c.headings FROM chunk c JOIN source_file s USING (doc_id)"
            " WHERE c.chunker_fp = %s AND s.collection = %s AND s.uri = ANY(%s) ORDER BY s.uri, c.position, c.chunk_id",
            (generation.key.chunker_fp, generation.collection, looked_at),
        ).fetchall()
    passages: dict[str, list[Passage]] = {}
    for uri, text, headings in rows:
        passages.setdefault(uri, []).append(Passage(uri, text, tuple(headings)))
    return [passage for group in groups for passage in in_turns(group, passages, seed)][:wanted]


def spread_documents(uris: Sequence[str], seed: int) -> list[str]:
    """Documents in an order in which every top folder and file type comes up early: strata take turns, shuffled within."""
    strata: dict[tuple[str, str], list[str]] = {}
    for uri in sorted(uris):
        strata.setdefault((folder_of(uri), type_of(uri)), []).append(uri)
    chance = random.Random(seed)
    for members in strata.values():
        chance.shuffle(members)
    order = list(strata.values())
    chance.shuffle(order)
    return [uri for turn in zip_longest(*order) for uri in turn if uri is not None]


def in_turns(uris: Sequence[str], passages: Mapping[str, Sequence[Passage]], seed: int) -> Iterator[Passage]:
    """A passage of every document, then a second one of each, …: those long enough, in an order by chance."""
    queues = []
    for uri in uris:
        fit = [passage for passage in passages.get(uri, ()) if length(words_of(passage.text)) >= LEAST_PASSAGE_WORDS]
        # By its own name, so that another document's coming or going does not change what is asked of this one.
        random.Random(f"{seed} {uri}").shuffle(fit)
        queues.append(fit)
    return (passage for turn in zip_longest(*queues) for passage in turn if passage is not None)
