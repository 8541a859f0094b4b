"""``up``: the database, the Dagster UI, its daemon and the reports, until Ctrl-C."""

import os
import signal
import socket
import subprocess
import sys
import time
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from rag_assets.cli.main import common, main, remember_source, reporting, working
from rag_assets.errors import ConfigurationError, RagAssetsError

_READY_SECONDS = 180
_WATCH_SECONDS = 2


@main.command()
@common
@click.option("--port", default=3000, show_default=True, help="Port of the Dagster UI, on this machine only.")
@click.option("--reports-port", type=int, help="Port of the reports (default: serving.port, 3030); 0: any free one.")
@click.option("--no-browser", is_flag=True, help="Do not open a browser window.")
def up(
    source: Path | str | None,
    collection: str | None,
    as_json: bool,
    port: int,
    reports_port: int | None,
    no_browser: bool,
) -> None:
    """Run everything until Ctrl-C: PostgreSQL, the Dagster UI, its daemon, and the reports."""
    with reporting(as_json), working(source, collection, as_json=as_json) as (runtime, name, bars):
        from rag_assets.defs.dead_runs import end_dead_runs
        from rag_assets.defs.instance import WORKSPACE_FILE, open_instance, prepare_home
        from rag_assets.serving.server import Server

        _refuse_used(port)
        reports = Server(runtime, runtime.settings.serving.port if reports_port is None else reports_port)
        _remember_folder(runtime, source, name)
        _ = runtime.database
        home = prepare_home(runtime.settings)
        end_dead_runs(open_instance(runtime.settings), alone=runtime.settings.postgres_url is None and _alone(runtime))
        environment = {
            **os.environ,
            "DAGSTER_HOME": str(home),
            "RAG_HOME": str(runtime.settings.home),
            "DAGSTER_DISABLE_TELEMETRY": "1",
        }
        command = [sys.executable, "-m", "dagster", "dev", "-w", str(home / WORKSPACE_FILE)]
        command += ["-h", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(command, env=environment, start_new_session=True)
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_ready(process, url)
            with reports:
                bars.say(f"\nDagster UI: {url}   reports: {reports.url}   (Ctrl-C stops everything)\n")
                if not no_browser and sys.stdout.isatty():
                    webbrowser.open(url)
                code = _watch(process, runtime, bars.say)
        except (KeyboardInterrupt, SystemExit):
            code = 0
        finally:
            _stop(process)
        if code:
            raise RagAssetsError(f"The Dagster UI ended with code {code}; what it printed is above.")


def _remember_folder(runtime: Any, source: Path | str | None, name: str) -> None:
    """The UI's own processes read the settings anew. A source that can't be listed is refused, not remembered."""
    if source is not None:
        runtime.source(name).listing(runtime.settings.collection(name).exclude)
        remember_source(source, name)


def _alone(runtime: Any) -> bool:
    """Whether this is the only live process that uses the embedded database."""
    from rag_assets.database.embedded import embedded

    return embedded(runtime.settings.home).holders() == [os.getpid()]


def _refuse_used(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ConfigurationError(
                f"Port {port} can't be used: {error.strerror}. Choose another with --port."
            ) from None


def _wait_ready(process: "subprocess.Popen[bytes]", url: str) -> None:
    # Every command imports this module, and none but this one asks a server.
    import urllib.request

    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/server_info", timeout=2):
                return
        except OSError:
            time.sleep(0.5)
    if process.poll() is None:
        raise RagAssetsError(f"The Dagster UI did not answer at {url} within {_READY_SECONDS} s.")


def _watch(process: "subprocess.Popen[bytes]", runtime: Any, say: Callable[[str], None]) -> int:
    """Wait until the UI ends; meanwhile bring the embedded database back whenever it is found gone."""
    from rag_assets.database.embedded import embedded

    server = None if runtime.settings.postgres_url else embedded(runtime.settings.home)
    while True:
        try:
            return process.wait(timeout=_WATCH_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        if server is not None and not server.is_running():
            say("The database is gone; starting it again …")
            try:
                server.acquire()
            except RagAssetsError as error:
                say(str(error))


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Ask the whole process group that we started to end, then insist."""
    for what, patience in ((signal.SIGINT, 15), (signal.SIGTERM, 10), (signal.SIGKILL, 5)):
        if process.poll() is not None:
            return
        try:
            os.killpg(process.pid, what)
            process.wait(timeout=patience)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
