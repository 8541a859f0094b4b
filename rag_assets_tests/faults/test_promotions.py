"""Generations take turns in being live while others read: every answer is whole, from one that was live just then."""

import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import psycopg
import pytest

from rag_assets.database.pool import FROZEN_SECONDS
from rag_assets.indexing.promotion import promote, rollback
from rag_assets.models import Vectors
from rag_assets.retrieval.search import search
from rag_assets_tests.driving import corpus
from rag_assets_tests.fakes import FakeEmbedder
from rag_assets_tests.faults import work
from rag_assets_tests.faults.campaign import Profile, attempt_all, profiles
from rag_assets_tests.faults.judging import Findings
from rag_assets_tests.faults.oracle import DIMENSION
from rag_assets_tests.faults.processes import Child, completed, context
from rag_assets_tests.faults.scenarios import OTHER_MODEL
from rag_assets_tests.faults.stored import read
from rag_assets_tests.faults.subject import MODEL, Subject
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
        with laboratory.new() as made:
            # Nothing is frozen here; on a busy machine a reader may get no processor for longer than such subjects wait.
            subject = replace(made, frozen_seconds=FROZEN_SECONDS)
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


def histories_agree(url: str) -> list[str]:
    """Every promotion replaced the one before it, and the last one is what is live."""
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT from_generation, to_generation FROM rag.promotion ORDER BY id").fetchall()
        live = connection.execute("SELECT live_generation FROM rag.collection WHERE name = 'default'").fetchone()
    breaks = [f"{a} was followed by {b}" for a, b in pairwise(rows) if a[1] != b[0]]
    return breaks if live is not None and rows[-1][1] == live[0] else [*breaks, f"{live} is live, not {rows[-1][1]}"]


@profiles
def test_contending_promotions_replace_one_another_one_at_a_time(
    profile: Profile, laboratory: Laboratory, request: pytest.FixtureRequest
) -> None:
    refused = []

    def attempt(_: str) -> Findings:
        found = Findings(trials=0)
        with laboratory.new() as subject:
            corpus(subject.source, 4)
            completed(work.sync_once, subject)
            other = subject.under(**OTHER_MODEL)
            completed(work.sync_once, other)
            for _ in range(max(8, profile.promotions // 10)):
                gate = context.Barrier(4)
                turns = [Child(work.turn, other, gate, number % 2 == 0) for number in range(4)]
                for outcome in [child.outcome() for child in turns]:
                    refused.append(not outcome.done)
                    if not outcome.done and outcome.error not in ("GateRefused", "RagAssetsError"):
                        found.add("other", f"a promotion ended with {outcome.error}: {outcome.message}")
                found.trials += 1
                for what in histories_agree(subject.url):
                    found.add("mixed", what)
                stored = read(subject.url)
                live = [generation.id for generation in stored.generations.values() if generation.state == "live"]
                if live != [stored.pointer]:
                    found.add("mixed", f"{live} are noted as live, the pointer names {stored.pointer}")
        return found

    attempt_all(laboratory.campaign, "contending promotions", ["all"], attempt, request.node.nodeid)
    laboratory.campaign.note("contending promotions", refused=sum(refused))


class Interrupted(FakeEmbedder):
    """Something happens while it embeds its first question."""

    meanwhile: Callable[[], object] | None = None

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return super().embed_queries(texts)


def test_a_question_whose_index_is_dropped_while_it_is_embedded_is_answered_by_the_next_one(
    laboratory: Laboratory,
) -> None:
    with laboratory.new() as empty:
        subject = empty.under(sync={"keep_retired": 1})
        corpus(subject.source, 4)
        completed(work.sync_once, subject)

        def replace_twice() -> None:
            for m in (8, 24):
                completed(work.sync_once, subject.under(index={"m": m}))

        with subject.opened() as runtime:
            embedder = Interrupted(version=MODEL, dimension=DIMENSION)
            runtime.fakes[MODEL], embedder.meanwhile = embedder, replace_twice
            result = search(runtime, "Paragraph 1 of document 2 tells of topic 15", collection="default", k=1)
            live = runtime.live("default")
        assert live is not None
        assert result.generation.id == live.id
        assert [hit.document for hit in result.hits] == ["d02.md"]


def live_id(subject: Subject) -> int:
    with subject.opened() as runtime:
        live = runtime.live("default")
        assert live is not None
        return live.id


def judge_reads(found: Findings, reads: Sequence[Read], flips: Sequence[Flip], first: int) -> None:
    for one in reads:
        if one.fault is not None:
            found.add("mixed", one.fault)
        elif not was_live(one, flips, first):
            found.add("mixed", f"an answer of generation {one.generation}, which was not live then")
