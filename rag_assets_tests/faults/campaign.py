"""How much of everything is tried, what came of it, and how to try one thing again."""

import json
import os
import random
import shlex
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from rag_assets_tests.faults.judging import KINDS, Findings

REPLAY = "RAG_FAULTS_REPLAY"
"""Names one trial: only that is run."""
SEED = "RAG_FAULTS_SEED"
"""What is drawn at random is drawn from it; set here, so that processes that pytest starts have the same."""
os.environ.setdefault(SEED, str(random.SystemRandom().randrange(1, 10**9)))
_T = TypeVar("_T")


@dataclass(frozen=True)
class Profile:
    """How much is tried: in every run of the tests, or in the campaign."""

    name: str
    random_kills: int
    postgres_kills: int
    writer_rounds: int
    examples: int
    steps: int
    promotions: int
    reads: int
    frozen_seconds: float
    """Silence after which the server ends the session of a frozen process."""
    stopped_seconds: float
    """How long a process stays frozen."""

    @property
    def is_long(self) -> bool:
        return self.name == "long"


QUICK = Profile("quick", 24, 2, 6, 10, 10, 12, 1_000, 1.0, 2.0)
LONG = Profile("long", 1_000, 104, 200, 100, 50, 500, 100_000, 30.0, 32.0)
profiles = pytest.mark.parametrize(
    "profile",
    [
        pytest.param(QUICK, id="quick", marks=pytest.mark.timeout(900)),
        pytest.param(LONG, id="long", marks=[pytest.mark.faults_long, pytest.mark.timeout(3 * 3600)]),
    ],
)
"""Runs a test once in each profile; the long one is chosen by ``-m faults_long``."""


@dataclass
class Tally:
    """Trials of one kind of fault and what was found in them."""

    trials: int = 0
    found: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass
class Campaign:
    """Everything that was tried in this session."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    seed: int = field(default_factory=lambda: int(os.environ[SEED]))

    def record(self, kind: str, findings: Findings, trial: str, node: str) -> str | None:
        """Count a trial; returns its failure in words. ``trial`` is its name, ``node`` the test it belongs to."""
        tally = self.tallies.setdefault(kind, Tally())
        tally.trials += findings.trials
        for name, faults in findings.faults.items():
            tally.found[name] += len(faults)
        if not findings:
            return None
        self.failures.append(f"{kind}: {trial} (seed {self.seed})\n{findings}\nAgain: {self.command(trial, node)}")
        return self.failures[-1]

    def note(self, kind: str, **facts: Any) -> None:
        """Figures beside the counts."""
        self.tallies.setdefault(kind, Tally()).facts.update(facts)

    def command(self, trial: str, node: str) -> str:
        """The line that runs one trial again."""
        return (
            f"{SEED}={self.seed} {REPLAY}={shlex.quote(trial)} .venv/bin/python -m pytest -q -m '' {shlex.quote(node)}"
        )

    def lines(self) -> list[str]:
        """A table for people: a line per kind of fault."""
        width = max(map(len, self.tallies), default=0)
        lines = [f"seed {self.seed}; {SEED}={self.seed} runs the same again"]
        for kind, tally in sorted(self.tallies.items()):
            counts = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in tally.found.items())
            facts = "".join(f"; {name.replace('_', ' ')} {value}" for name, value in tally.facts.items())
            lines.append(f"{kind:<{width}}  N = {tally.trials:>6,}: {counts}{facts}")
        return lines

    def as_json(self) -> dict[str, Any]:
        """The same as plain data."""
        return {
            "seed": self.seed,
            "kinds": {
                kind: {"trials": tally.trials, "found": tally.found, "facts": tally.facts}
                for kind, tally in sorted(self.tallies.items())
            },
            "failures": self.failures,
        }

    def add(self, data: Mapping[str, Any]) -> None:
        """Add what another process counted, as ``as_json`` gives it."""
        for kind, tally in data["kinds"].items():
            mine = self.tallies.setdefault(kind, Tally())
            mine.trials += tally["trials"]
            mine.found = {name: mine.found[name] + number for name, number in tally["found"].items()}
            mine.facts.update(tally["facts"])
        self.failures += data["failures"]

    def write(self, path: Path) -> None:
        """The same as a file."""
        path.write_text(json.dumps(self.as_json(), indent=2) + "\n", encoding="utf-8")


CAMPAIGN = pytest.StashKey[Campaign]()
"""Where pytest's configuration keeps it."""


def attempt_all(
    campaign: Campaign,
    kind: str,
    trials: Sequence[_T],
    attempt: Callable[[_T], Findings],
    node: str,
    lanes: int | None = None,
) -> None:
    """Attempt and record every trial (or the one a replay names), several side by side; ``node`` is the test's id.

    Raises:
        AssertionError: faults were found; each with the line that tries it again.
    """
    wanted = os.environ.get(REPLAY)
    chosen = [trial for trial in trials if wanted is None or str(trial) == wanted]
    failures = []

    def one(trial: _T) -> None:
        try:
            found = attempt(trial)
        except Exception:
            found = Findings()
            found.add("other", traceback.format_exc())
        failure = campaign.record(kind, found, str(trial), node)
        if failure:
            failures.append(failure)

    with ThreadPoolExecutor(lanes or os.cpu_count() or 2) as executor:
        results = [executor.submit(one, trial) for trial in chosen]
    for result in results:
        result.result()
    assert not failures, f"{len(failures)} of {len(chosen)} trials:\n" + "\n\n".join(failures[:5])
