"""Fixtures of the campaign."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from rag_assets_tests.faults.campaign import CAMPAIGN, Campaign
from rag_assets_tests.faults.databases import Databases
from rag_assets_tests.faults.scenarios import SCENARIOS
from rag_assets_tests.faults.trials import Laboratory, Prepared


@pytest.fixture(scope="session")
def campaign(request: pytest.FixtureRequest) -> Campaign:
    """Counts every trial of the session."""
    return request.config.stash.setdefault(CAMPAIGN, Campaign())


@pytest.fixture(scope="session")
def laboratory(postgres_server: str, tmp_path_factory: pytest.TempPathFactory, campaign: Campaign) -> Laboratory:
    """On the session's server, which waits for no disk: here processes die, and the server outlives them."""
    return Laboratory(Databases(postgres_server), tmp_path_factory.mktemp("faults"), campaign)


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
