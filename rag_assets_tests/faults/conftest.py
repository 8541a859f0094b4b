"""Fixtures of the campaign."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from rag_assets_tests.faults.campaign import CAMPAIGN, Campaign
from rag_assets_tests.faults.databases import Databases
from rag_assets_tests.faults.trials import Laboratory, Preparations


@pytest.fixture(scope="session")
def campaign(request: pytest.FixtureRequest) -> Campaign:
    """Counts every trial of the session."""
    return request.config.stash.setdefault(CAMPAIGN, Campaign())


@pytest.fixture(scope="session")
def laboratory(postgres_server: str, tmp_path_factory: pytest.TempPathFactory, campaign: Campaign) -> Laboratory:
    """On the session's server, which waits for no disk: here processes die, and the server outlives them."""
    return Laboratory(Databases(postgres_server), tmp_path_factory.mktemp("faults"), campaign)


@pytest.fixture(scope="session")
def prepared(laboratory: Laboratory) -> Iterator[Preparations]:
    """Prepare a scenario by name, once a session."""
    with ExitStack() as stack:
        yield Preparations(laboratory, stack)
