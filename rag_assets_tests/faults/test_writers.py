"""Several processes run the same dirty shard at once: its work is applied once, and nobody leaves anything of its own."""

import random
import signal
from dataclasses import replace
from typing import Any

import pytest

from rag_assets_tests.faults import work
from rag_assets_tests.faults.campaign import Profile, attempt_all, profiles
from rag_assets_tests.faults.folders import begin, change
from rag_assets_tests.faults.judging import Findings, judge
from rag_assets_tests.faults.oracle import Row, contents, wanted
from rag_assets_tests.faults.processes import Child, Outcome, completed, context
from rag_assets_tests.faults.stored import read
from rag_assets_tests.faults.subject import Subject
from rag_assets_tests.faults.trials import Laboratory

ROUNDS = 5
"""On one index, after which a new one is begun."""
MOST = 8
CONFIGURATIONS: tuple[dict[str, Any], ...] = (
    {},
    {"embedder": {"model": "2"}},
    {"chunking": {"max_tokens": 24}},
    {"index": {"m": 8}},
)
"""Each asks for an index of its own."""


def differences(before: dict[str, Row], after: dict[str, Row]) -> dict[str, int]:
    """Rows that had to be written, rewritten and removed, once each."""
    return {
        "added": len(after.keys() - before.keys()),
        "updated": sum(before[chunk_id] != after[chunk_id] for chunk_id in after.keys() & before.keys()),
        "removed": len(before.keys() - after.keys()),
    }


def one_round(subject: Subject, rng: random.Random, found: Findings) -> int:
    """Change documents and let two to eight processes at them; returns how many were superseded."""
    before = wanted(contents(subject.source), subject.recipe()).rows
    for _ in range(rng.randint(1, 4)):
        change(subject.source, rng)
    documents = contents(subject.source)
    after = wanted(documents, subject.recipe()).rows
    number = rng.randint(2, MOST)
    gate = context.Barrier(number)
    contenders = [Child(work.contend, subject, gate, 0) for _ in range(number)]
    outcomes = [contender.outcome() for contender in contenders]
    for outcome in outcomes:
        if not outcome.done and outcome.error != "Superseded":
            found.add("other", f"a contender ended with {outcome.error or outcome.signal}: {outcome.message}")
    applied: dict[str, Any] = dict.fromkeys(("added", "updated", "removed"), 0)
    for outcome in filter(lambda outcome: outcome.done, outcomes):
        applied = {kind: number + outcome.value[kind] for kind, number in applied.items()}
    if applied != differences(before, after):
        found.add("duplicated", f"{number} contenders applied {applied} instead of {differences(before, after)}")
    found.merge(judge(read(subject.url), documents, subject.recipe()), f"{number} contenders")
    found.trials += 1
    return sum(map(is_superseded, outcomes))


def contending_syncs(subject: Subject, rng: random.Random, found: Findings) -> None:
    """Change documents and let several processes sync under a configuration that asks for a new index."""
    change(subject.source, rng)
    number = rng.randint(2, 4)
    gate = context.Barrier(number)
    outcomes = [child.outcome() for child in [Child(work.sync_together, subject, gate) for _ in range(number)]]
    for outcome in outcomes:
        if not outcome.done and outcome.error != "Superseded":
            found.add("other", f"a sync ended with {outcome.error or outcome.signal}: {outcome.message}")
    completed(work.sync_twice, subject)
    stored = read(subject.url)
    found.merge(judge(stored, contents(subject.source), subject.recipe()), f"{number} syncs")
    begun = [generation.id for generation in stored.generations.values() if generation.state != "retired"]
    if len(begun) != 1:
        found.add("duplicated", f"{number} syncs left generations {begun}")
    found.trials += 1


def is_superseded(outcome: Outcome) -> bool:
    return outcome.error == "Superseded"


@profiles
def test_contending_processes_apply_the_work_once(
    profile: Profile, laboratory: Laboratory, request: pytest.FixtureRequest
) -> None:
    campaign = laboratory.campaign
    superseded = []

    def attempt(number: int) -> Findings:
        rng, found = random.Random(f"{campaign.seed}/{number}"), Findings(trials=0)
        with laboratory.new() as empty:
            subject = empty.under(sync={"shards": 1})
            begin(subject.source)
            completed(work.sync_once, subject)
            for _ in range(ROUNDS):
                superseded.append(one_round(subject, rng, found))
        return found

    rounds = range(profile.writer_rounds // ROUNDS)
    attempt_all(campaign, "contending writers", rounds, attempt, request.node.nodeid)
    campaign.note("contending writers", superseded=sum(superseded))
    assert sum(superseded) > 0, "no process ever met another: the test did not test anything"


@profiles
def test_contending_syncs_of_a_new_configuration_build_one_index(
    profile: Profile, laboratory: Laboratory, request: pytest.FixtureRequest
) -> None:
    campaign = laboratory.campaign

    def attempt(number: int) -> Findings:
        rng, found = random.Random(f"{campaign.seed}/syncs/{number}"), Findings(trials=0)
        with laboratory.new() as subject:
            begin(subject.source)
            for settings in CONFIGURATIONS:
                subject = subject.under(**settings)
                contending_syncs(subject, rng, found)
        return found

    rounds = range(max(1, profile.writer_rounds // 10))
    attempt_all(campaign, "contending syncs", rounds, attempt, request.node.nodeid)


def test_a_graph_that_two_processes_want_to_build_is_built_once(laboratory: Laboratory) -> None:
    """The first is stopped when it has built it and not committed; the second must wait, and find it built."""
    with laboratory.new() as built:
        begin(built.source)
        completed(work.sync_once, built)
        subject = replace(built.under(embedder={"model": "2"}), frozen_seconds=120)
        completed(work.build_only, subject)
        first = Child(work.publish, subject, failpoint="hnsw_index.built=stop@1")
        assert first.wait_until_stopped()
        second = Child(work.publish, subject)
        second.wait_a_moment()
        first.signal(signal.SIGCONT)
        for outcome in (first.outcome(), second.outcome()):
            assert outcome.done or outcome.error == "GateRefused", outcome.message
        assert not judge(read(subject.url), contents(subject.source), subject.recipe())
