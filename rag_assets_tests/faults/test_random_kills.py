"""SIGKILL at random moments of random histories; what a killed process began, a later one, killed or not, goes on with."""

import random
import signal
import time
from collections.abc import Sequence
from typing import Any

import pytest

from rag_assets_tests.faults import work
from rag_assets_tests.faults.campaign import Profile, attempt_all, profiles
from rag_assets_tests.faults.folders import begin, change
from rag_assets_tests.faults.judging import Findings, judge, judge_embedding, judge_interrupted, last_batches
from rag_assets_tests.faults.oracle import Contents, contents
from rag_assets_tests.faults.processes import Child, completed
from rag_assets_tests.faults.stored import read
from rag_assets_tests.faults.subject import Subject
from rag_assets_tests.faults.trials import Laboratory

KILLS = 10
"""In one chain, after which a new index is begun."""
SHARE = 0.8
"""Of the time that an undisturbed sync and a second, empty one took: later the process is likely to have ended."""
SETTINGS: Sequence[dict[str, Any]] = (
    {"chunking": {"max_tokens": 64}},
    {"chunking": {"max_tokens": 24}},
    {"embedder": {"model": "2"}},
    {"embedder": {"model": "3"}},
    {"index": {"m": 8}},
    {"index": {"m": 16}},
    {"sync": {"shards": 1}},
    {"sync": {"shards": 3}},
)


class Chain:
    """One index, killed again and again."""

    def __init__(self, subject: Subject, seed: str) -> None:
        self.subject, self.rng, self.found = subject, random.Random(seed), Findings(trials=0)
        self.killed: list[int] = []
        self.unfinished: list[Contents] = []
        self.seconds = 0.5
        self.ended_first = 0
        begin(subject.source)
        self.before = read(subject.url)

    def step(self) -> None:
        """Change something, kill the sync of it, and, every other time, let a sync complete everything."""
        self.unfinished = self.unfinished or [contents(self.subject.source)]
        for _ in range(self.rng.randint(1, 3)):
            change(self.subject.source, self.rng)
        if self.rng.random() < 0.3:
            self.subject = self.subject.under(**self.rng.choice(SETTINGS))
        self.unfinished.append(contents(self.subject.source))
        child = Child(work.sync_once, self.subject)
        time.sleep(self.rng.random() * SHARE * self.seconds)
        child.signal(signal.SIGKILL)
        outcome = child.outcome()
        self.killed.append(child.pid)
        self.found.trials += outcome.signal == signal.SIGKILL
        if outcome.done:
            self.ended_first += 1
        elif outcome.signal != signal.SIGKILL:
            self.found.add("other", f"it ended with {outcome.error}: {outcome.message}")
        interrupted = judge_interrupted(read(self.subject.url), self.unfinished, self.before)
        self.found.merge(interrupted, f"after kill {self.found.trials}")
        if self.rng.random() < 0.5:
            self.complete()

    def complete(self) -> None:
        began = time.monotonic()
        completed(work.sync_twice, self.subject)
        self.seconds = 0.5 * self.seconds + 0.5 * (time.monotonic() - began)
        self.before = read(self.subject.url)
        self.unfinished = []
        judged = judge(self.before, contents(self.subject.source), self.subject.recipe())
        self.found.merge(judged, f"synced after kill {self.found.trials}")


@profiles
def test_killed_at_any_moment_it_ends_right(
    profile: Profile, laboratory: Laboratory, request: pytest.FixtureRequest
) -> None:
    campaign = laboratory.campaign
    ended_first = []

    def attempt(number: int) -> Findings:
        with laboratory.new() as subject:
            chain = Chain(subject, f"{campaign.seed}/{number}")
            while chain.found.trials < KILLS and chain.ended_first < 5 * KILLS:
                chain.step()
            chain.complete()
            batches = subject.embedded()
            chain.found.merge(judge_embedding(batches, last_batches(batches, chain.killed)), "embedding")
        ended_first.append(chain.ended_first)
        return chain.found

    chains = range(profile.random_kills // KILLS)
    attempt_all(campaign, "random SIGKILL", chains, attempt, request.node.nodeid)
    campaign.note("random SIGKILL", ended_before_the_kill=sum(ended_first))
