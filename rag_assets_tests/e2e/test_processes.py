"""Commands that share an installation, and commands that are ended in the middle."""

import signal
import subprocess
import sys
import time

import psutil
import pytest

from rag_assets_tests.e2e.commands import CommandLine, finish
from rag_assets_tests.e2e.processes import assert_all_end, family

DOCUMENTS = 120
_PATIENCE = 120


@pytest.fixture(scope="module")
def command(installation: CommandLine) -> CommandLine:
    """An installation with a folder that takes some seconds to index."""
    folder = installation.cwd / "documents"
    folder.mkdir()
    for number in range(DOCUMENTS):
        text = f"# Ship {number}\n\nShip number {number} carries cargo of kind {number * 7} to port {number % 13}.\n"
        (folder / f"ship-{number}.md").write_text(text, encoding="utf-8")
    return installation


def _command_of(process: psutil.Process) -> str:
    """Its command line; empty for one that is about to start another program, or has just ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _wait_until_it_parses(process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + _PATIENCE
    top = psutil.Process(process.pid)
    while time.monotonic() < deadline:
        if any("documents.worker" in _command_of(child) for child in top.children()):
            return
        assert process.poll() is None, "the sync ended before it parsed anything"
        time.sleep(0.05)
    raise AssertionError("the sync did not begin to parse")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_sync_that_is_ended_says_so_and_leaves_no_process(command: CommandLine, number: signal.Signals) -> None:
    process = command.start("sync", "--source", "documents", "--json", start_new_session=True)
    _wait_until_it_parses(process)
    everyone = family(process.pid, command.home)
    assert len(everyone) > 2  # itself, a parser and the server, at least
    process.send_signal(number)
    ended = finish(process, _PATIENCE)
    assert ended.code == 1
    assert ended.json["exit_code"] == 1
    assert "Interrupted" in ended.json["error"]
    assert "Interrupted" in ended.err
    assert_all_end(everyone)


AN_IMPORT_INTERRUPTED = """
import time
from rag_assets.cli.main import reporting

importing = "import signal; signal.raise_signal(signal.SIGTERM); print('went on')"
with reporting(False):
    exec(compile(importing, "<frozen importlib._bootstrap>", "exec"))
    time.sleep(60)
print("was not interrupted")
"""


def test_python_finishes_what_it_does_for_an_import_before_it_is_interrupted() -> None:
    """There an exception is lost at times, and the lock of all imports with it."""
    done = subprocess.run([sys.executable, "-c", AN_IMPORT_INTERRUPTED], capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout) == (1, "went on\n")
    assert "Interrupted" in done.stderr


def test_a_sync_that_was_killed_does_not_stand_in_the_way_of_the_next(command: CommandLine) -> None:
    process = command.start("sync", "--source", "documents", "--json", start_new_session=True)
    _wait_until_it_parses(process)
    # Until a run is under way there is nothing to leave behind: wait for the first shard's chunks.
    deadline = time.monotonic() + _PATIENCE
    while "dagster" not in {path.name for path in command.home.iterdir()} and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)
    process.kill()
    process.wait(timeout=_PATIENCE)
    again = command.run("sync", "--source", "documents", "--json")
    assert again.code == 0, again.err
    (found,) = command.json("status")["collections"]
    assert (found["documents"], found["chunks"]) == (DOCUMENTS, DOCUMENTS)
    (command.cwd / "documents" / "ship-1.md").write_text("# Ship 1\n\nIt was painted red.\n", encoding="utf-8")


def test_two_syncs_and_a_search_at_once_after_that_all_end_well_and_complete_the_index(command: CommandLine) -> None:
    (command.cwd / "documents" / "ship-0.md").write_text("# Ship\n\nA ship that carries tulips.\n", encoding="utf-8")
    both = [command.start("sync", "--source", "documents", "--json") for _ in range(2)]
    searching = command.start("search", "Ship number 77 carries cargo", "-k", "120", "--json")
    found = finish(searching)
    assert found.code == 0, found.err
    assert found.json["hits"][0]["document"].startswith("ship-")
    for process in both:
        done = finish(process)
        assert done.code == 0, done.err
        assert done.json["generation"]["state"] == "live"
    (collection,) = command.json("status")["collections"]
    assert (collection["documents"], collection["chunks"]) == (DOCUMENTS, DOCUMENTS)
    assert command.json("sync")["shards"] == []
    (tulips,) = command.json("search", "tulips", "-k", "1")["hits"]
    assert tulips["document"] == "ship-0.md"
