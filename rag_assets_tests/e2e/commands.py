"""Drives the installed ``rag-assets`` command as a person or a script does: separate processes, pipes, exit codes."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROGRAM = Path(sys.executable).with_name("rag-assets")
SECONDS = 240
"""Deadline of one command; nothing here takes a tenth of it on an idle machine."""
SETTINGS = """
[sync]
shards = 2
[benchmark]
enabled = false
warm_up_seconds = 0
"""
"""Two shards are as good as eight here, and four times as quick; nobody waits here for figures that nobody reads."""
LIBRARY_NOISE = (
    "Traceback", "Warning", "Loading weights", "DAGSTER", "dagster -", "RUN_START", "STEP_", "it/s]", "HF_TOKEN",
)  # fmt: skip
"""What libraries print when nobody stops them. None of it is meant for the people who use the command."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that ended by itself."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object on standard output."""
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value


@dataclass(frozen=True, slots=True)
class CommandLine:
    """One installation: a RAG_HOME, and a working directory outside the repository."""

    home: Path
    cwd: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """This process's environment without any setting of ours, plus the installation's."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("RAG_", "DAGSTER_HOME"))}
        return {**kept, "RAG_HOME": str(self.home), "HF_HUB_OFFLINE": "1", **self.variables}

    def start(self, *arguments: str | Path, **options: Any) -> "subprocess.Popen[str]":
        """Start a command with its output in pipes."""
        return subprocess.Popen(
            [str(PROGRAM), *map(str, arguments)],
            cwd=self.cwd,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        )

    def run(self, *arguments: str | Path) -> Finished:
        """Run a command to its end; its output is never a traceback or a library's chatter."""
        return finish(self.start(*arguments))

    def succeed(self, *arguments: str | Path) -> Finished:
        """Run a command that must do its work."""
        done = self.run(*arguments)
        assert done.code == 0, f"{arguments}: exit code {done.code}\n{done.out}\n{done.err}"
        return done

    def json(self, *arguments: str | Path) -> dict[str, Any]:
        """What a command that must do its work prints with ``--json``."""
        return self.succeed(*arguments, "--json").json


def finish(process: "subprocess.Popen[str]", seconds: float = SECONDS) -> Finished:
    """Wait for a started command. It is killed at the deadline: then something hangs."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"{process.args!r} did not end within {seconds} s.\n{out}\n{err}") from None
    for noise in LIBRARY_NOISE:
        assert noise not in out, out
        assert noise not in err, err
    return Finished(process.returncode, out, err)
