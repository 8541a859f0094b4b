"""Any history of folder, settings, syncs, ticks, promotions, rollbacks and kills: after each sync the index is the oracle's."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from rag_assets_tests.driving import write
from rag_assets_tests.faults import folders, work
from rag_assets_tests.faults.campaign import REPLAY, Profile, attempt_all, profiles
from rag_assets_tests.faults.judging import Findings, judge, judge_embedding, judge_interrupted, last_batches
from rag_assets_tests.faults.oracle import Contents, Recipe, contents
from rag_assets_tests.faults.processes import Child, Outcome, completed, run_job
from rag_assets_tests.faults.stored import Stored, read
from rag_assets_tests.faults.test_failpoints import failpoints
from rag_assets_tests.faults.trials import Laboratory

NAMES = st.sampled_from(("a.md", "b.md", "c.md", "sub/d.md", "sub/e.md"))
TEXTS = st.integers(0, 5)
PICK = st.integers(0, 1000)
FAILPOINTS = st.sampled_from(sorted({name for name, _ in failpoints()}))
JOBS = st.sampled_from(
    (work.sync_once, work.sync_once, work.tick, work.publish, work.nightly_run, work.collect_garbage)
)
UNREADABLE = "n" * 300
"""A link to a name that is too long: looking at it fails, for root as well."""


class History(RuleBasedStateMachine):
    """One index and everything that can happen to it. ``laboratory`` and ``findings`` are set by the test."""

    laboratory: Laboratory
    findings: Findings

    def __init__(self) -> None:
        super().__init__()
        self._context = self.laboratory.new()
        self.subject = self._context.__enter__()
        self.source = self.subject.source
        folders.begin(self.source)
        self.before = read(self.subject.url)
        self.unfinished: list[Contents] = []
        self.kept: dict[str, bytes] = {}
        self.killed: list[int] = []

    def teardown(self) -> None:
        self._context.__exit__(None, None, None)

    def now(self) -> Contents:
        """What the index must hold: the folder, and the last known version of what can't be read."""
        return {**contents(self.source), **self.kept}

    def files(self) -> list[str]:
        return [name for name in folders.documents(self.source) if name.endswith(".md") and name not in self.kept]

    def check(self, found: Findings) -> None:
        self.findings.merge(found, "history")
        assert not found, str(found)

    # -- the folder ----------------------------------------------------------------------------------------------------

    @initialize(first=st.booleans())
    def begin(self, first: bool) -> None:
        if first:
            self.synced()

    @rule(name=NAMES, text=TEXTS, paragraphs=st.integers(1, 3))
    def write_file(self, name: str, text: int, paragraphs: int) -> None:
        self.replace(name)
        write(self.source, name, folders.body(text, paragraphs))

    @rule(number=st.integers(0, 1), text=TEXTS)
    def edit_anchor(self, number: int, text: int) -> None:
        write(self.source, folders.ANCHORS[number], folders.body(1000 + text, 3))

    @precondition(lambda self: self.files())
    @rule(pick=PICK, team=st.integers(0, 3))
    def edit_front_matter(self, pick: int, team: int) -> None:
        folders.set_front_matter(self.source, self.one(pick), team)

    @precondition(lambda self: self.files())
    @rule(pick=PICK)
    def delete(self, pick: int) -> None:
        (self.source / self.one(pick)).unlink()

    @precondition(lambda self: self.files())
    @rule(pick=PICK, name=NAMES)
    def rename(self, pick: int, name: str) -> None:
        old = self.one(pick)
        if old != name:
            self.replace(name)
            folders.move(self.source, old, name)

    @precondition(lambda self: self.files())
    @rule(pick=PICK, name=NAMES)
    def copy(self, pick: int, name: str) -> None:
        text = (self.source / self.one(pick)).read_text(encoding="utf-8")
        self.replace(name)
        write(self.source, name, text)

    @precondition(lambda self: self.files())
    @rule(pick=PICK)
    def touch(self, pick: int) -> None:
        os.utime(self.source / self.one(pick))

    @rule(number=st.integers(0, 2))
    def garbage(self, number: int) -> None:
        (self.source / f"garbage{number}.docx").write_bytes(b"PK\x03\x04" + bytes([number]))

    @rule(name=NAMES)
    def empty(self, name: str) -> None:
        self.replace(name)
        write(self.source, name, "")

    @precondition(lambda self: (self.source / "sub").is_dir() and not any("/" in name for name in self.kept))
    @rule(number=st.integers(0, 1))
    def rename_folder(self, number: int) -> None:
        if not (self.source / f"sub{number}").exists():
            (self.source / "sub").rename(self.source / f"sub{number}")

    @precondition(lambda self: self.files())
    @rule(pick=PICK)
    def make_unreadable(self, pick: int) -> None:
        self.synced()
        name = self.one(pick)
        path = self.source / name
        self.kept[name] = path.read_bytes()
        path.unlink()
        path.symlink_to(UNREADABLE)

    def replace(self, name: str) -> None:
        """A link would be written through."""
        if self.kept.pop(name, None) is not None:
            (self.source / name).unlink()

    def one(self, pick: int) -> str:
        files = self.files()
        return files[pick % len(files)]

    # -- settings ------------------------------------------------------------------------------------------------------

    @rule(tokens=st.sampled_from((24, 64)))
    def chunk_size(self, tokens: int) -> None:
        self.subject = self.subject.under(chunking={"max_tokens": tokens})

    @rule(model=st.sampled_from(("1", "2")))
    def model(self, model: str) -> None:
        self.subject = self.subject.under(embedder={"model": model})

    @rule(m=st.sampled_from((8, 16)))
    def graph(self, m: int) -> None:
        self.subject = self.subject.under(index={"m": m})

    @rule(shards=st.integers(1, 3))
    def shards(self, shards: int) -> None:
        self.subject = self.subject.under(sync={"shards": shards})

    # -- work ----------------------------------------------------------------------------------------------------------

    @rule()
    def synced(self) -> None:
        completed(work.sync_twice, self.subject)
        stored, recipe = read(self.subject.url), self.subject.recipe()
        rolled_back = any(g.state == "withdrawn" and g.recipe == recipe for g in stored.generations.values())
        self.right(stored, None if rolled_back else recipe)

    @rule()
    def tick(self) -> None:
        if completed(work.tick, self.subject).value is not None:
            self.right(read(self.subject.url), None)

    def right(self, stored: Stored, recipe: Recipe | None) -> None:
        self.before, self.unfinished = stored, []
        self.check(judge(stored, self.now(), recipe))
        batches = self.subject.embedded()
        self.check(judge_embedding(batches, last_batches(batches, self.killed)))

    @rule()
    def promote(self) -> None:
        """By hand, whatever state the target is in: it goes live whole, or is refused."""
        self.whole(run_job(work.publish, self.subject), "GateRefused", "RagAssetsError")

    @rule()
    def roll_back(self) -> None:
        self.whole(run_job(work.roll_back, self.subject), "GateRefused", "RagAssetsError")

    @rule()
    def collect_garbage(self) -> None:
        self.whole(run_job(work.collect_garbage, self.subject))
        # Vectors that nobody needed are gone; who needs them later embeds them again, and rightly so.
        self.subject.log.unlink(missing_ok=True)

    @rule(job=JOBS, name=FAILPOINTS, number=PICK)
    def killed_at(self, job: Any, name: str, number: int) -> None:
        """Killed at a passing of a failpoint, if the work gets so far."""
        number = 1 + number % (40 if name.startswith("transaction") else 2)
        child = Child(job, self.subject, failpoint=f"{name}=kill@{number}")
        self.killed.append(child.pid)
        self.whole(child.outcome(), "GateRefused", "RagAssetsError", killed=True)
        if job is work.collect_garbage:
            self.subject.log.unlink(missing_ok=True)

    @rule(number=st.integers(1, 35), text=TEXTS)
    def edit_and_be_killed(self, number: int, text: int) -> None:
        """As above, where work is certain to be done."""
        self.edit_anchor(0, text)
        self.killed_at(work.sync_once, "transaction.commit", number - 1)

    def whole(self, outcome: Outcome, *errors: str, killed: bool = False) -> None:
        """The work ended well, or as it may; what answers is whole."""
        expected = outcome.done or outcome.error in errors or (killed and outcome.signal == signal.SIGKILL)
        assert expected, f"{outcome.error or outcome.signal}: {outcome.message}"
        now = read(self.subject.url)
        self.unfinished.append(self.now())
        self.check(judge_interrupted(now, self.unfinished, self.before))
        self.findings.trials += killed and outcome.signal == signal.SIGKILL


@profiles
def test_after_every_history_the_index_is_the_oracles(
    profile: Profile, laboratory: Laboratory, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    def attempt(_: str) -> Findings:
        findings = Findings(trials=0)
        machine = type("History", (History,), {"laboratory": laboratory, "findings": findings})
        run_state_machine_as_test(  # type: ignore[no-untyped-call]
            seed(laboratory.campaign.seed)(machine),
            settings=settings(
                max_examples=profile.examples,
                stateful_step_count=profile.steps,
                deadline=None,
                database=DirectoryBasedExampleDatabase(tmp_path / "examples"),
                # Shrinking takes minutes: a replay does it.
                phases=[Phase.generate, *([Phase.shrink] if REPLAY in os.environ else [])],
                suppress_health_check=list(HealthCheck),
                print_blob=True,
            ),
        )
        return findings

    attempt_all(laboratory.campaign, "histories", ["all"], attempt, request.node.nodeid)
    laboratory.campaign.note("histories", examples=profile.examples, steps_each=profile.steps)
