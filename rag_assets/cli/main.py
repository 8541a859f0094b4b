"""The command group, its common options, and how errors become exit codes."""

import atexit
import functools
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar

import click

from rag_assets import __version__
from rag_assets.cli.output import ProgressBars, emit
from rag_assets.errors import RagAssetsError

_F = TypeVar("_F", bound=Callable[..., Any])
_IMPORTING_SECONDS = 0.01
"""After so long it is looked again whether an import can be interrupted."""


@contextmanager
def importing_much() -> Iterator[None]:
    """Around imports of a thousand modules: nothing of theirs is garbage, and looking for it takes a quarter of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


_COMMANDS = {
    "bench": ("bench",),
    "capacity": ("capacity",),
    "documents": ("plan", "retry", "status", "sync"),
    "golden": ("questions",),
    "impact": ("compare",),
    "operations": ("demo", "doctor", "forget", "gc", "promote", "reconcile", "rollback"),
    "questions": ("ask", "evaluate", "search"),
    "tuning": ("tune",),
    "up": ("up",),
}
"""Module of this package -> the commands it adds to the group when it is imported."""
_MODULES = {command: module for module, commands in _COMMANDS.items() for command in commands}


class _Group(click.Group):
    """Commands that are imported when they are asked for, and whose ``--json`` holds for usage errors, too."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, sorted; whoever lists them wants to know what each does, too."""
        for module in _COMMANDS:
            import_module(f"rag_assets.cli.{module}")
        return super().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """See ``click.Group``, which says what may have been meant by a name that there is not: all have to be there then."""
        for module in [_MODULES[cmd_name]] if cmd_name in _MODULES else _COMMANDS:
            import_module(f"rag_assets.cli.{module}")
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command named; click itself prints the usage and ends with 2."""
        as_json = "--json" in ctx.args
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            if as_json:
                emit({"error": error.format_message(), "exit_code": error.exit_code})
            raise


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="rag-assets")
def main() -> None:
    """Keep a vector index of a team's documents true, fast and proven.

    Exit codes: 0 done, 1 the work failed, 2 bad usage or configuration, 3 a gate refused.
    """
    # What is in memory at the end goes with the process; Python would look through all of it first, for half a second.
    atexit.register(gc.freeze)


class _Source(click.ParamType[Path | str]):
    """A folder's path, or a URL as it is."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:
        """See ``click.ParamType``."""
        from rag_assets.settings.source_urls import is_url

        return value if is_url(value) else Path(value)


_one_collection = click.option(
    "--collection", help="Collection to work on (default: `default`, else the first configured)."
)
_several_collections = (
    click.option("--collection", "collections", multiple=True, help="Collection to search; repeat it for several."),
    click.option("--all", "everywhere", is_flag=True, help="Search every collection that has a live index."),
)


def common(function: _F) -> _F:
    """Options every command takes: which documents, which collection, JSON or not."""
    return _with_options(function, _one_collection)


def common_of_several(function: _F) -> _F:
    """The same for a command that takes several collections: ``collections``, ``everywhere``."""
    return _with_options(function, *_several_collections)


def _with_options(function: _F, *about_collections: Callable[[Any], Any]) -> _F:
    options: list[Callable[[Any], Any]] = [
        click.option("--source", type=_Source(), help="Folder or URL of documents (or set RAG_SOURCE)."),
        *about_collections,
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text."),
    ]
    return functools.reduce(lambda decorated, option: option(decorated), reversed(options), function)


@contextmanager
def reporting(as_json: bool) -> Iterator[None]:
    """Turn our errors into a message and an exit code; with ``as_json`` into an object with both."""
    # Python ends on SIGTERM without running what gives the database back; a shell's `&` has SIGINT ignored.
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    except RagAssetsError as error:
        fail(str(error), error.exit_code, as_json)
    except KeyboardInterrupt:
        fail("Interrupted. What was finished is kept; run the command again to go on.", 1, as_json)
    except BrokenPipeError:
        sys.stderr.close()
        raise SystemExit(0) from None
    except OSError as error:
        fail(f"{error}. What was finished is kept; correct that and run the command again.", 1, as_json)
    except Exception as error:
        # A mistake of ours: people get the traceback, scripts still get their object.
        if as_json:
            emit({"error": f"{type(error).__name__}: {error}", "exit_code": 1})
        raise


def _interrupt(number: int, frame: FrameType | None) -> None:
    if frame is None or not frame.f_code.co_filename.startswith("<frozen importlib"):
        raise KeyboardInterrupt

    # Raised within Python's own code for imports an exception may be lost, and the lock with it that every import takes: other
    # threads would wait for ever. Whoever handles the signal then is told in a moment.
    def later(_: int, then: FrameType | None) -> None:
        handler = signal.getsignal(number)
        if callable(handler):
            handler(number, then)

    signal.signal(signal.SIGALRM, later)
    signal.setitimer(signal.ITIMER_REAL, _IMPORTING_SECONDS)


def fail(message: str, code: int, as_json: bool) -> NoReturn:
    """Say what went wrong and end."""
    if as_json:
        emit({"error": message, "exit_code": code})
    click.echo(f"Error: {message}", err=True)
    raise SystemExit(code)


@contextmanager
def working(
    source: Path | str | None, collection: str | None, *, as_json: bool
) -> Iterator[tuple[Any, str, ProgressBars]]:
    """A runtime with progress bars, and the name of the collection the command is about."""
    from rag_assets.runtime import Runtime
    from rag_assets.settings import load_settings

    collection = collection or os.environ.get("RAG_COLLECTION")
    settings = load_settings(source=source, collection=collection)
    name = settings.target(collection)
    with ProgressBars(quiet=as_json) as bars, Runtime(settings, progress=bars, report=bars.say) as runtime:
        yield runtime, name, bars


def remember_source(source: Path | str | None, collection: str) -> None:
    """Let later commands, and the Dagster UI, know the folder this command was given."""
    from rag_assets.settings import load_settings

    load_settings(source=source, collection=collection, remember=True)
