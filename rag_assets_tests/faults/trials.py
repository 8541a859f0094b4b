"""One trial: a copy of a prepared index, a fault while work is done on it, and everything judged afterwards."""

import itertools
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import psycopg

from rag_assets.fingerprint import document_id
from rag_assets_tests.faults import work
from rag_assets_tests.faults.campaign import Campaign, Profile
from rag_assets_tests.faults.databases import Databases
from rag_assets_tests.faults.judging import Findings, judge, judge_embedding, judge_interrupted, last_batches
from rag_assets_tests.faults.oracle import Contents, contents
from rag_assets_tests.faults.processes import COUNT_ONLY, Child, completed
from rag_assets_tests.faults.scenarios import EDITED, SCENARIOS, Scenario, build, edit_again
from rag_assets_tests.faults.stored import Stored, read
from rag_assets_tests.faults.subject import Subject

FORGET_MEANWHILE = "stop, forget"
"""An action of ``freeze``: while the process is frozen, a person has a document forgotten."""
GO_ON_MEANWHILE = "stop, go on"
"""Another: the process goes on, and commits, while the other one is at work or waits for it."""


@dataclass(frozen=True)
class Trial:
    """A scenario, and what happens in it where."""

    scenario: str
    failpoint: str
    action: str
    number: int = 1

    def __str__(self) -> str:
        return f"{self.scenario}:{self.failpoint}={self.action}@{self.number}"

    @property
    def armed(self) -> str:
        """As the variable has it."""
        return f"{self.failpoint}={self.action.partition(',')[0]}@{self.number}"


@dataclass(frozen=True)
class Prepared:
    """A scenario's index just before the work, and how often the work passes each failpoint."""

    scenario: Scenario
    subject: Subject
    before: Stored
    earlier: Contents
    passed: dict[str, int]
    seconds: float
    """How long the work takes when nothing happens to it."""


@dataclass
class Laboratory:
    """Makes indexes to experiment on."""

    databases: Databases
    folder: Path
    campaign: Campaign
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def new(self, copy_of: Subject | None = None) -> AbstractContextManager[Subject]:
        """A new index, gone after the block."""
        return self.databases.subject(self.folder / f"{next(self._numbers):05d}", copy_of)

    def prepare(self, scenario: Scenario, keep: Subject) -> Prepared:
        """Prepare ``keep``, and run the work once on a copy of it to count failpoints."""
        if scenario.prepare is not None:
            scenario.prepare(keep)
        before, earlier = read(keep.url), contents(keep.source)
        if scenario.finish is not None:
            # What it embeds again was damaged or taken away: that is its work.
            keep.log.unlink(missing_ok=True)
        with self.changed(Prepared(scenario, keep, before, earlier, {}, 0)) as subject:
            began = time.monotonic()
            outcome = completed(scenario.job, subject, *scenario.arguments, failpoint=COUNT_ONLY)
        return Prepared(scenario, keep, before, earlier, outcome.passed, time.monotonic() - began)

    @contextmanager
    def changed(self, prepared: Prepared) -> Iterator[Subject]:
        """A copy of the prepared index whose folder and settings have changed."""
        with self.new(prepared.subject) as copy:
            prepared.scenario.change(copy.source)
            yield copy.under(**prepared.scenario.settings)


class Preparations:
    """Scenarios of one laboratory, each prepared when first asked for."""

    def __init__(self, laboratory: Laboratory, stack: ExitStack) -> None:
        """The indexes live until ``stack`` is closed."""
        self._laboratory, self._stack = laboratory, stack
        self._built: Subject | None = None
        self._known: dict[str, Prepared] = {}

    def __call__(self, name: str) -> Prepared:
        if name not in self._known:
            scenario = SCENARIOS[name]
            keep = self._stack.enter_context(self._laboratory.new(None if scenario.first else self._base()))
            self._known[name] = self._laboratory.prepare(scenario, keep)
        return self._known[name]

    def _base(self) -> Subject:
        if self._built is None:
            self._built = self._stack.enter_context(self._laboratory.new())
            build(self._built)
        return self._built


def interrupt(laboratory: Laboratory, prepared: Prepared, trial: Trial) -> Findings:
    """The work dies, or fails, at a failpoint; a new sync completes it."""
    scenario, found = prepared.scenario, Findings()
    with laboratory.changed(prepared) as subject:
        child = Child(scenario.job, subject, *scenario.arguments, failpoint=trial.armed)
        outcome = child.outcome()
        if outcome.done:
            found.add("other", "the failpoint was not reached")
        expected = {"kill": (None, signal.SIGKILL), "term": (None, signal.SIGTERM), "raise": ("FailpointReached", None)}
        if not outcome.done and (outcome.error, outcome.signal) != expected[trial.action]:
            found.add("other", f"it ended with {outcome.error or outcome.signal}: {outcome.message}")
        left = judge_left_behind(found, prepared, subject)
        complete(found, scenario, subject, last_batches(subject.embedded(), [child.pid]))
        live = read(subject.url).live
        if scenario.keeps_recipe and (left.live is None or live is None or left.live.id != live.id):
            found.add("other", "what a person made live did not stay live")
    return found


def freeze(laboratory: Laboratory, prepared: Prepared, trial: Trial, profile: Profile) -> Findings:
    """The work is frozen at a failpoint; another process brings the index to a newer state; then it goes on."""
    scenario, found = prepared.scenario, Findings()
    with laboratory.changed(prepared) as copy:
        subject = replace(copy, frozen_seconds=120 if trial.action == GO_ON_MEANWHILE else profile.frozen_seconds)
        zombie = Child(scenario.job, subject, *scenario.arguments, failpoint=trial.armed)
        if not zombie.wait_until_stopped():
            found.add("other", f"the failpoint was not reached: {zombie.outcome()}")
            return found
        frozen = time.monotonic()
        try:
            edit_again(subject.source)
            if trial.action == FORGET_MEANWHILE:
                newer = Child(work.forget, subject, EDITED)
            else:
                newer = Child(work.sync_once, meanwhile(trial, subject))
            if trial.action == GO_ON_MEANWHILE:
                newer.wait_a_moment()
                zombie.signal(signal.SIGCONT)
            outcome = newer.outcome(120 + profile.stopped_seconds)
            if not outcome.done:
                found.add("other", f"the other process ended with {outcome.error or outcome.signal}: {outcome.message}")
            if trial.action != GO_ON_MEANWHILE:
                time.sleep(max(0.0, profile.stopped_seconds - (time.monotonic() - frozen)))
        finally:
            zombie.signal(signal.SIGCONT)
        end = zombie.outcome()
        if not end.done and end.error not in ("Superseded", "DatabaseLost", "GateRefused"):
            found.add("other", f"the frozen process ended with {end.error or end.signal}: {end.message}")
        if trial.action == FORGET_MEANWHILE:
            # Not even for a moment, whoever wrote last.
            judge_gone(found, subject, EDITED)
            scenario = replace(scenario, gone=EDITED)
        elif scenario.job is work.sync_once and outcome.done and (end.done or trial.action != GO_ON_MEANWHILE):
            # Two that publish at once may both be refused, for each changed what the other had judged; they say so.
            refused = any(one.done and one.value["refused"] for one in (outcome, end))
            recipe = None if refused else subject.recipe()
            found.merge(judge(read(subject.url), contents(subject.source), recipe), "after the zombie")
        complete(found, scenario, meanwhile(trial, subject), None)
    return found


def meanwhile(trial: Trial, subject: Subject) -> Subject:
    """What the other process is configured for: a re-sharded zombie meets a collection that was sharded anew."""
    return subject.under(sync={"shards": 5}) if trial.scenario == "resharding" else subject


def judge_left_behind(found: Findings, prepared: Prepared, subject: Subject) -> Stored:
    now = contents(subject.source)
    versions = [prepared.earlier, now]
    if prepared.scenario.gone:
        versions.append({name: data for name, data in now.items() if name != prepared.scenario.gone})
    stored = read(subject.url)
    found.merge(judge_interrupted(stored, versions, prepared.before), "left behind")
    return stored


def complete(found: Findings, scenario: Scenario, subject: Subject, excused: set[int] | None) -> None:
    """Do again what a person would, sync, and judge everything.

    ``excused``: the batches that may be embedded again; None: any, for two processes worked at the same time.
    """
    try:
        if scenario.finish is not None:
            scenario.finish(subject)
        completed(work.sync_twice, subject)
    except AssertionError as error:
        found.add("other", str(error))
        return
    documents = contents(subject.source)
    if scenario.gone is not None:
        documents.pop(scenario.gone)
        judge_gone(found, subject, scenario.gone)
    recipe = None if scenario.keeps_recipe else subject.recipe()
    found.merge(judge(read(subject.url), documents, recipe), "after the sync")
    if scenario.job is work.collect_garbage:
        _judge_collected(found, subject)
    if excused is not None:
        found.merge(judge_embedding(subject.embedded(), excused), "embedding")


def _judge_collected(found: Findings, subject: Subject) -> None:
    """Nothing is left of an index that nobody wants."""
    stored = read(subject.url)
    if stored.live is None:
        return
    chunker, model = stored.live.key
    if {fp for fp, _ in stored.chunked} != {chunker} or {fp for fp, _ in stored.vectors} != {model}:
        found.add("orphaned", "chunks or vectors of an abandoned index")
    if list(stored.generations) != [stored.live.id]:
        found.add("orphaned", f"generations {list(stored.generations)}")


def judge_gone(found: Findings, subject: Subject, document: str) -> None:
    doc_id = document_id("default", document.encode())
    with psycopg.connect(subject.url) as connection:
        for table in ("source_file", "document", "chunked", "chunk", "indexed", "index_entry"):
            statement = f"SELECT count(*) FROM rag.{table} WHERE doc_id = %s"
            (count,) = connection.execute(statement, (doc_id,)).fetchone() or (0,)
            if count:
                found.add("orphaned", f"{table} has {count} rows of the forgotten document")
