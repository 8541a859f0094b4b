"""Fixtures of the campaign, and its summary at the end of the session."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from rag_assets_tests.faults.campaign import Campaign
from rag_assets_tests.faults.databases import Databases, as_superuser
from rag_assets_tests.faults.scenarios import SCENARIOS
from rag_assets_tests.faults.trials import Laboratory, Prepared

_campaign = pytest.StashKey[Campaign]()


@pytest.fixture(scope="session")
def campaign(request: pytest.FixtureRequest) -> Campaign:
    """Counts every trial of the session."""
    return request.config.stash.setdefault(_campaign, Campaign())


@pytest.fixture(scope="session")
def fault_server(postgres_server: str) -> str:
    """The session's server, without waiting for the disk: here processes die, and the server's memory outlives them."""
    with psycopg.connect(as_superuser(postgres_server), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")
    return postgres_server


@pytest.fixture(scope="session")
def laboratory(fault_server: str, tmp_path_factory: pytest.TempPathFactory, campaign: Campaign) -> Laboratory:
    return Laboratory(Databases(fault_server), tmp_path_factory.mktemp("faults"), campaign)


PrepareScenario = Callable[[str], Prepared]


@pytest.fixture(scope="session")
def prepared(laboratory: Laboratory) -> Iterator[PrepareScenario]:
    """Prepare a scenario by name, once a session."""
    with ExitStack() as stack:
        known: dict[str, Prepared] = {}

        def prepare(name: str) -> Prepared:
            if name not in known:
                known[name] = laboratory.prepare(SCENARIOS[name], stack.enter_context(laboratory.new()))
            return known[name]

        yield prepare


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    found = config.stash.get(_campaign, None)
    if found is None or not found.tallies:
        return
    terminalreporter.section("faults")
    for line in found.lines():
        terminalreporter.write_line(line)
    path = Path(str(config._tmp_path_factory.getbasetemp())) / "faults.json"  # type: ignore[attr-defined]
    found.write(path)
    terminalreporter.write_line(f"as JSON: {path}")
