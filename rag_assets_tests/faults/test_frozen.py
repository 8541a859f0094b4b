"""A process that is frozen in the middle of its work and goes on when the world has moved: it writes nothing that is old."""

import pytest

from rag_assets_tests.faults.campaign import Profile, attempt_all, profiles
from rag_assets_tests.faults.judging import Findings
from rag_assets_tests.faults.scenarios import SCENARIOS
from rag_assets_tests.faults.test_failpoints import EVERYWHERE, HOME
from rag_assets_tests.faults.trials import FORGET_MEANWHILE, GO_ON_MEANWHILE, Laboratory, Preparations, Trial, freeze

LANES = 16
"""Frozen side by side: nearly all of a trial is waiting."""
STRIDES = {"stop": 12, GO_ON_MEANWHILE: 24}
"""The long profile freezes at every so manieth transaction, for a freeze takes half a minute."""

FORGETTING = (
    "raw_documents.parsed",
    "chunks.cut",
    "embeddings.computed",
    "embeddings.written",
    "index_entries.applied",
)
STALE = ("raw_documents.parsed", "raw_documents.looked", "chunks.cut")
"""Here a process holds, outside any transaction, what it has read and not yet written."""


def trials_of(profile: Profile, prepared: Preparations) -> list[Trial]:
    """Quick: every failpoint in one scenario. Long: every failpoint, at its first and last passing, in every scenario."""
    if not profile.is_long:
        names = sorted({name for scenario in SCENARIOS for name in prepared(scenario).passed} - set(EVERYWHERE))
        trials = [Trial(HOME.get(name, "chunking"), name, "stop") for name in names]
        inside = [name for name in names if name not in (*STALE, "embeddings.computed")]
        trials += [Trial(HOME.get(name, "chunking"), name, GO_ON_MEANWHILE) for name in inside]
        trials += [Trial("edits", name, "stop", number) for name in EVERYWHERE for number in (9,)]
        trials += [Trial("edits", name, FORGET_MEANWHILE) for name in FORGETTING]
        trials += [Trial("chunking", name, "stop", 2) for name in STALE]
        trials += [Trial("resharding", name, "stop", number) for name in STALE[:2] for number in (1, 2)]
        return [
            *trials,
            Trial("forget", "transaction.commit", "stop"),
            Trial("model", "transaction.commit", "stop", 60),
        ]
    forgetting = [
        Trial(scenario, name, FORGET_MEANWHILE, number)
        for scenario in ("edits", "chunking")
        for name in FORGETTING
        for number in range(1, prepared(scenario).passed[name] + 1)
    ]
    return forgetting + [
        Trial(scenario, name, action, number)
        for action in STRIDES
        for scenario in SCENARIOS
        for name, passed in sorted(prepared(scenario).passed.items())
        for number in (range(1, passed + 1, STRIDES[action]) if name in EVERYWHERE else sorted({1, passed}))
    ]


@profiles
def test_a_frozen_process_that_goes_on_writes_nothing_old(
    profile: Profile, laboratory: Laboratory, prepared: Preparations, request: pytest.FixtureRequest
) -> None:
    def attempt(trial: Trial) -> Findings:
        return freeze(laboratory, prepared(trial.scenario), trial, profile)

    attempt_all(
        laboratory.campaign, "failpoint × stop", trials_of(profile, prepared), attempt, request.node.nodeid, LANES
    )
