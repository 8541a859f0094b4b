"""What the command line prints: progress bars and tables for people, one JSON object for scripts."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import click

_STEPS = {
    "look": "Looking into files",
    "plan": "Working out the plan",
    "parse": "Parsing documents",
    "chunk": "Cutting chunks",
    "embed": "Embedding chunks",
    "shards": "Updating shards",
    "index": "Building the index",
    "evaluate": "Asking golden questions",
    "variants": "Comparing variants",
    "compare with exact search": "Comparing with exact search",
    "answer": "Answering golden questions",
    "benchmark": "Measuring speed under load",
    "time answers": "Timing answers",
    "draft": "Drafting questions",
}
_PIPE_WIDTH = 4096
"""Columns of a table that is not read on a terminal: more than any row needs; tables are as wide as their content."""
_LOG_SECONDS = 5.0
"""Where there is no terminal, a long step prints a line this often."""


class ProgressBars:
    """A ``Progress`` for people, on standard error: bars with rate and time left on a terminal, else a line now and then.

    Steps that are done quickly leave no bar behind.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}
        self._started: dict[str, float] = {}
        self._spoke: dict[str, float] = {}

    def __enter__(self) -> "ProgressBars":
        if not self._quiet and sys.stderr.isatty():
            self._bars = _rich_progress()
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, step: str, done: int, total: int | None) -> None:
        """Show that ``done`` of ``total`` units of ``step`` are finished."""
        if self._quiet:
            return
        label = _STEPS.get(step, step.capitalize())
        if self._bars is not None:
            self._bar(step, label, done, total)
        else:
            self._line(step, label, done, total)

    def say(self, text: str) -> None:
        """A line above the bars."""
        if self._quiet:
            return
        if self._bars is not None:
            self._bars.console.print(text, highlight=False)
        else:
            click.echo(text, err=True)

    def _bar(self, step: str, label: str, done: int, total: int | None) -> None:
        # A step starts again for every shard; its bar then goes on counting.
        task = self._tasks.get(step)
        if task is None or self._bars.tasks[task].finished:
            if task is not None:
                self._bars.update(task, visible=False)
            self._tasks[step] = task = self._bars.add_task(label, total=total)
        self._bars.update(task, completed=done, total=total)

    def _line(self, step: str, label: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        started = self._started.setdefault(step, now)
        if done == total:
            self._started.pop(step, None)
            spoken = self._spoke.pop(step, None)
            if spoken is None:
                return
        elif now - self._spoke.get(step, started) < _LOG_SECONDS:
            return
        else:
            self._spoke[step] = now
        elapsed = max(now - started, 1e-3)
        rate = done / elapsed
        speed = f"{rate:.1f}/s" if rate >= 1 or not rate else f"{1 / rate:.0f} s each"
        left = f", {(total - done) / rate:.0f} s left" if total and rate > 0 and done < total else ""
        click.echo(f"{label}: {done}/{total or '?'} ({speed}{left})", err=True)


def _rich_progress() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        """Units a second."""

        def render(self, task: Any) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:.1f}/s" if speed else "", style="progress.data.speed")

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        console=Console(stderr=True),
    )


def emit(data: Mapping[str, Any]) -> None:
    """One JSON object on standard output."""
    click.echo(json.dumps(data, ensure_ascii=False, default=str))


def rows(title: str, columns: Sequence[str], values: Sequence[Sequence[Any]]) -> None:
    """A table on standard output."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=title, title_justify="left", box=box.SIMPLE, title_style="bold")
    for column in columns:
        numeric = bool(values) and all(isinstance(row[columns.index(column)], int | float) for row in values)
        shown.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in values:
        shown.add_row(
            *(Text("" if value is None else f"{value:,}" if isinstance(value, int) else str(value)) for value in row)
        )
    # In a pipe a row is a line, so that grep and awk see whole names and reasons.
    Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH).print(shown)


def excerpt(text: str, length: int = 220) -> str:
    """One line of a passage."""
    flat = " ".join(text.split())
    return flat if len(flat) <= length else flat[: length - 1].rsplit(" ", 1)[0] + " …"
