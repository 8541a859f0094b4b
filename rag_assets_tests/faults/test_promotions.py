"""Generations take turns in being live while others read: every answer is whole, from one that was live just then."""

import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from rag_assets.indexing.promotion import promote, rollback
from rag_assets.retrieval.search import search
from rag_assets_tests.driving import corpus
from rag_assets_tests.faults import work
from rag_assets_tests.faults.campaign import Profile, attempt_all, profiles
from rag_assets_tests.faults.judging import Findings
from rag_assets_tests.faults.processes import Child, completed, context
from rag_assets_tests.faults.scenarios import OTHER_MODEL
from rag_assets_tests.faults.subject import Subject
from rag_assets_tests.faults.trials import Laboratory

READERS = 3
K = 5
DOCUMENTS = 20
QUESTIONS = tuple(
    f"Document {n}\nDocument {n}\n\nParagraph 0 of document {n} tells of topic {n * 7}" for n in range(DOCUMENTS)
)


@dataclass(frozen=True)
class Read:
    """One search: when, and which generation it says it is from."""

    began: float
    ended: float
    generation: int
    fault: str | None
    """Why the answer is not whole."""


@dataclass(frozen=True)
class Flip:
    """One promotion or rollback: the other generation became live between these moments."""

    began: float
    ended: float
    live: int


def tag(subject: Subject) -> None:
    """Write into every row which generation it belongs to."""
    with psycopg.connect(subject.url) as connection:
        connection.execute("UPDATE rag.index_entry SET payload = payload || jsonb_build_object('tag', generation_id)")


def reader(subject: Subject, gate: Any, done: Any, reads: int) -> list[Read]:
    """Search ``reads`` times, and until the flips are done."""
    found: list[Read] = []
    with subject.opened() as runtime:
        search(runtime, QUESTIONS[0], collection="default", k=K)
        gate.wait(60)
        while len(found) < reads or not done.is_set():
            began = time.monotonic()
            try:
                result = search(runtime, QUESTIONS[len(found) % DOCUMENTS], collection="default", k=K)
                fault = fault_of(result)
                number = result.generation.id
            except Exception as error:
                number, fault = 0, f"failed: {type(error).__name__}: {error}"
            found.append(Read(began, time.monotonic(), number, fault))
    return found


def fault_of(result: Any) -> str | None:
    """What is wrong with an answer, judged by itself: rows of two generations, too few, or a question embedded otherwise."""
    tags = {hit.metadata["tag"] for hit in result.hits}
    if not result.hits:
        return "empty"
    if tags != {result.generation.id}:
        return f"mixed: rows of {tags} in an answer of generation {result.generation.id}"
    if len(result.hits) != K:
        return f"short: {len(result.hits)} hits"
    best = result.hits[0].scores["dense"]
    if best < 0.7:
        return f"embedded with another model: the best hit scores {best}"
    return None


def flipper(subject: Subject, gate: Any, done: Any, flips: int, seconds: float) -> list[Flip]:
    """Promote and roll back in turn, spread over ``seconds``."""
    found = []
    with subject.opened() as runtime:
        first = runtime.live("default")
        assert first is not None
        gate.wait(60)
        started = time.monotonic()
        for number in range(flips):
            time.sleep(max(0.0, started + seconds * number / flips - time.monotonic()))
            began = time.monotonic()
            if number % 2 == 0:
                # Live is the second generation; the one before it answers again.
                live = rollback(runtime, "default", who="test").live
            else:
                target = runtime.target("default")
                assert target is not None
                live = promote(runtime, target, who="test", reason="test").live
            found.append(Flip(began, time.monotonic(), live.id))
    done.set()
    return found


def was_live(read: Read, flips: Sequence[Flip], first: int) -> bool:
    """Whether its generation was live at some moment between the beginning and the end of a read."""
    # The last flip that was certainly over when the read began left its generation live; any later one that had begun
    # before the read ended may have changed that.
    over = bisect_left([flip.ended for flip in flips], read.began)
    possible = {flips[over - 1].live if over else first}
    possible |= {flip.live for flip in flips[over:] if flip.began <= read.ended}
    return read.generation in possible


@profiles
def test_readers_see_one_live_generation_while_they_take_turns(
    profile: Profile, laboratory: Laboratory, request: pytest.FixtureRequest
) -> None:
    reads: list[Read] = []
    flips: list[Flip] = []

    def attempt(_: str) -> Findings:
        with laboratory.new() as subject:
            corpus(subject.source, DOCUMENTS)
            completed(work.sync_once, subject)
            other = subject.under(**OTHER_MODEL)
            completed(work.sync_once, other)
            tag(subject)
            first = completed(live_id, other).value
            gate, done = context.Barrier(READERS + 1), context.Event()
            share = -(-profile.reads // READERS)
            readers = [Child(reader, subject, gate, done, share) for _ in range(READERS)]
            turning = Child(flipper, other, gate, done, profile.promotions, profile.reads / 600)
            flipped = turning.outcome(2400)
            found = Findings(trials=profile.promotions)
            if not flipped.done:
                found.add("other", f"the promotions ended with {flipped.error}: {flipped.message}")
                done.set()
            flips.extend(flipped.value or ())
            for child in readers:
                reads.extend(child.outcome(2400).value or ())
            judge_reads(found, reads, flips, first)
        return found

    attempt_all(laboratory.campaign, "promotions under reads", ["all"], attempt, request.node.nodeid)
    laboratory.campaign.note("promotions under reads", reads=len(reads), flips=len(flips))
    assert len(reads) >= profile.reads
    assert len(flips) == profile.promotions
    assert len({read.generation for read in reads}) == 2, "readers saw one generation only"


def live_id(subject: Subject) -> int:
    with subject.opened() as runtime:
        live = runtime.live("default")
        assert live is not None
        return live.id


def judge_reads(found: Findings, reads: Sequence[Read], flips: Sequence[Flip], first: int) -> None:
    for read in reads:
        if read.fault is not None:
            found.add("mixed", read.fault)
        elif not was_live(read, flips, first):
            found.add("mixed", f"an answer of generation {read.generation}, which was not live then")
