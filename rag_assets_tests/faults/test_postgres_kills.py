"""The database dies under the work, all of its processes at once or one session: the work itself goes on when it is back."""

import random
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from rag_assets_tests.faults import work
from rag_assets_tests.faults.campaign import Campaign, Profile, attempt_all, profiles
from rag_assets_tests.faults.databases import Databases
from rag_assets_tests.faults.judging import Findings, judge
from rag_assets_tests.faults.oracle import contents
from rag_assets_tests.faults.processes import Child
from rag_assets_tests.faults.servers import Server, Witness, own_server
from rag_assets_tests.faults.stored import read
from rag_assets_tests.faults.trials import Laboratory, Preparations, Trial, complete

CLUSTER, SESSION = "cluster", "session"
QUICK_TRIALS = (
    Trial("model", "embeddings.written", CLUSTER),
    Trial("model", "hnsw_index.built", CLUSTER),
    Trial("model", "index_entries.applied", CLUSTER, 2),
    Trial("model", "promotion.flipped", CLUSTER),
    Trial("model", "time", CLUSTER, 500),
    Trial("model", "chunks.written", SESSION),
)
NAMED = ("edits", "model", "promotion", "rollback", "dropping", "reconcile", "forget", "rebuild", "garbage")


class Crashes:
    """Scenarios prepared on a server that may die."""

    def __init__(self, server: Server, laboratory: Laboratory, prepared: Preparations) -> None:
        self.server, self.laboratory, self.prepared = server, laboratory, prepared

    def crash(self, trial: Trial) -> tuple[Findings, bool]:
        """(what was found, whether the work recovered by itself)."""
        prepared, found = self.prepared(trial.scenario), Findings()
        scenario = prepared.scenario
        with self.laboratory.changed(prepared) as subject:
            witness = Witness(subject.url)
            at_random = trial.failpoint == "time"
            failpoint = None if at_random else f"{trial.failpoint}=stop@{trial.number}"
            child = Child(scenario.job, subject, *scenario.arguments, failpoint=failpoint)
            if at_random:
                time.sleep(trial.number / 1000 * prepared.seconds)
            elif not child.wait_until_stopped():
                found.add("other", f"the failpoint was not reached: {child.outcome()}")
            batches = len(subject.embedded())
            if trial.action == CLUSTER:
                self.server.kill_everything()
            else:
                self.server.kill_session(urlsplit(subject.url).path.strip("/"))
            child.signal(signal.SIGCONT)
            outcome = child.outcome(300)
            self.server.revive()
            recovered = outcome.done and scenario.job is work.sync_once
            if not outcome.done and outcome.error != "DatabaseLost":
                found.add("other", f"the work ended with {outcome.error or outcome.signal}: {outcome.message}")
            if scenario.job is work.sync_once:
                if not outcome.done:
                    found.add("other", f"the sync did not recover: {outcome.message}")
                found.merge(judge(read(subject.url), contents(subject.source), subject.recipe()), "recovered")
            for kind, number in zip(("acknowledged", "half"), witness.verdict(), strict=True):
                if number:
                    found.add("lost" if kind == "acknowledged" else "mixed", f"{number} {kind} transactions")
            # What was being written when the server died was not committed; the next batch may have been computed by then.
            complete(found, scenario, subject, {batches - 1, batches})
        return found, recovered


@pytest.fixture(scope="module")
def crashes(tmp_path_factory: pytest.TempPathFactory, campaign: Campaign) -> Iterator[Crashes]:
    with own_server() as server, ExitStack() as stack:
        databases = Databases(server.url, home=server.home)
        laboratory = Laboratory(databases, tmp_path_factory.mktemp("crashes"), campaign)
        stack.callback(server.revive)
        yield Crashes(server, laboratory, Preparations(laboratory, stack))


def all_trials(crashes: Crashes, kills: int, seed: int) -> list[Trial]:
    """Every named failpoint of these scenarios, then random moments and transactions."""
    trials = [
        Trial(scenario, name, CLUSTER, passed)
        for scenario in NAMED
        for name, passed in sorted(crashes.prepared(scenario).passed.items())
    ]
    rng = random.Random(seed)
    while len(trials) < kills:
        scenario = rng.choice(("first-build", "edits", "chunking", "model", "graph", "dropping"))
        action = SESSION if rng.random() < 0.25 else CLUSTER
        if rng.random() < 0.6:
            trials.append(Trial(scenario, "time", action, rng.randrange(1000)))
        else:
            number = rng.randint(1, crashes.prepared(scenario).passed["transaction.commit"])
            trials.append(Trial(scenario, "transaction.commit", action, number))
    return trials


@profiles
def test_the_work_goes_on_when_the_database_is_back(
    profile: Profile, crashes: Crashes, campaign: Campaign, request: pytest.FixtureRequest
) -> None:
    trials = all_trials(crashes, profile.postgres_kills, campaign.seed) if profile.is_long else list(QUICK_TRIALS)
    recovered = []

    def attempt(trial: Trial) -> Findings:
        found, by_itself = crashes.crash(trial)
        recovered.append(by_itself)
        return found

    for action in (CLUSTER, SESSION):
        same = [trial for trial in trials if trial.action == action]
        attempt_all(campaign, f"PostgreSQL {action} killed", same, attempt, request.node.nodeid, lanes=1)
    campaign.note("PostgreSQL cluster killed", recovered_by_themselves=sum(recovered))
