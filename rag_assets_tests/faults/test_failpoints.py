"""Work that dies, fails or is asked to end at every named place: what is left is whole, and the next sync completes it."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import rag_assets
from rag_assets_tests.faults.campaign import Profile, attempt_all, profiles
from rag_assets_tests.faults.judging import Findings
from rag_assets_tests.faults.scenarios import SCENARIOS
from rag_assets_tests.faults.trials import Laboratory, Preparations, Trial, interrupt

EVERYWHERE = ("transaction.commit", "transaction.committed")
"""Passed by every transaction: they are tried at every passing."""
ACTIONS = ("kill", "term", "raise")
HOME = {
    "raw_documents.removed": "edits",
    "generation.begun": "model",
    "hnsw_index.built": "model",
    "promotion.flipped": "promotion",
    "generation.dropped": "dropping",
    "forget.removed": "forget",
    "rebuild.begun": "rebuild",
    "garbage.chunks": "garbage",
    "rollback.flipped": "rollback",
    "reconcile.deleted": "reconcile",
    "lexical.rebuilt": "reconcile",
    "lexical.compacted": "merging",
}
"""The scenario in which the quick profile tries a failpoint; ``chunking`` for all others."""
STRIDES = {
    "first-build": 40,
    "edits": 28,
    "model": 56,
    "replacing": 40,
    "promotion": 12,
    "rollback": 1,
    "reconcile": 2,
    "forget": 1,
}
"""The quick profile tries every so manieth transaction of these scenarios."""


def failpoints() -> Iterator[tuple[str, str]]:
    """(name, place) of every call of ``failpoint`` in the package."""
    package = Path(rag_assets.__file__).parent
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "failpoint":
                (argument,) = node.args
                assert isinstance(argument, ast.Constant), f"{path}:{node.lineno}: name it by a literal"
                assert isinstance(argument.value, str)
                yield argument.value, f"{path.relative_to(package)}:{node.lineno}"


def test_every_failpoint_has_a_name_of_its_own() -> None:
    names = Counter(name for name, _ in failpoints())
    assert names
    assert [name for name, places in names.items() if places > 1] == []


def test_every_failpoint_is_reached_by_a_scenario(prepared: Preparations) -> None:
    reached = {name for scenario in SCENARIOS for name in prepared(scenario).passed}
    assert reached == {name for name, _ in failpoints()}


def quick_trials(prepared: Preparations) -> list[Trial]:
    """Each named failpoint with each action in one scenario, and some transactions of others."""
    trials = []
    for name in sorted({name for name, _ in failpoints()} - set(EVERYWHERE)):
        scenario = HOME.get(name, "chunking")
        last = prepared(scenario).passed[name]
        trials += [Trial(scenario, name, action, last if action == "kill" else 1) for action in ACTIONS]
    for scenario, stride in STRIDES.items():
        passed = prepared(scenario).passed
        for offset, name in enumerate(EVERYWHERE):
            action = "raise" if name == "transaction.commit" and scenario == "edits" else "kill"
            # On a loaded machine a step of a long scenario may have been repeated while they were counted, and is not in the trial.
            last = passed[name] - (2 if stride > 2 else 0)
            numbers = range(1 + offset * stride // 2, last + 1, stride)
            trials += [Trial(scenario, name, action, number) for number in numbers]
    return trials


def all_trials(prepared: Preparations) -> list[Trial]:
    """Each failpoint with each action at each passing in each scenario.

    SIGTERM is not handled, so it ends a process as SIGKILL does: every fourth transaction is enough of it.
    """
    return [
        Trial(scenario, name, action, number)
        for scenario in SCENARIOS
        for name, passed in sorted(prepared(scenario).passed.items())
        for number in range(1, passed + 1)
        for action in ACTIONS
        if action != "term" or name not in EVERYWHERE or number % 4 == 1
    ]


@profiles
def test_work_that_ends_at_a_failpoint_is_completed_by_the_next_sync(
    profile: Profile, laboratory: Laboratory, prepared: Preparations, request: pytest.FixtureRequest
) -> None:
    trials = all_trials(prepared) if profile.is_long else quick_trials(prepared)

    def attempt(trial: Trial) -> Findings:
        return interrupt(laboratory, prepared(trial.scenario), trial)

    for action in ACTIONS:
        same = [trial for trial in trials if trial.action == action]
        attempt_all(laboratory.campaign, f"failpoint × {action}", same, attempt, request.node.nodeid)
