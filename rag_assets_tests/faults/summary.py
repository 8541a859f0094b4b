"""Hooks of pytest: what the campaign tried and found is printed and written at the end, whichever process ran it."""

from pathlib import Path
from typing import Any

import pytest

from rag_assets_tests.faults.campaign import CAMPAIGN, Campaign

_KEY = "faults"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of xdist hands its counts to the process that reports."""
    found = session.config.stash.get(CAMPAIGN, None)
    output = getattr(session.config, "workeroutput", None)
    if found is not None and output is not None:
        output[_KEY] = found.as_json()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker of xdist has ended."""
    data = getattr(node, "workeroutput", {}).get(_KEY)
    if data is not None:
        node.config.stash.setdefault(CAMPAIGN, Campaign(seed=data["seed"])).add(data)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """A line for every kind of fault."""
    found = config.stash.get(CAMPAIGN, None)
    if found is None or not found.tallies:
        return
    terminalreporter.section("faults")
    for line in found.lines():
        terminalreporter.write_line(line)
    path = Path(str(config._tmp_path_factory.getbasetemp())) / "faults.json"  # type: ignore[attr-defined]
    found.write(path)
    terminalreporter.write_line(f"as JSON: {path}")
