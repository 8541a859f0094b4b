"""The stamp of a sync that found nothing to do, or has done everything.

What such a sync finds follows from what it looks at: how it was called, the settings, the program, the model's files, the documents, and
the database. It notes the state of all that; while every part of it is the same, the next sync would find the same, and says so without
loading what it takes to look. This module therefore imports neither settings nor a database driver at its top, nor ``dataclasses``, which
would take longer than all the rest. A sync that did something looks again when it has done it, so that the next one need not.

Files are compared by their states: those that a sync began with must be those that it ended with, and none may have changed within two
seconds before, lest it change again without its times showing it ("racy git").

What may change out of sight has no stamp: a source that is no folder, a symbolic link in it, a store that is no table, a model behind a
server or from a hub, and a graphics card's driver, where it chooses the model's number type.
"""

import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rag_assets import config_file
from rag_assets.database import state
from rag_assets.errors import RagAssetsError
from rag_assets.file_states import FileStates

if TYPE_CHECKING:
    from rag_assets.indexing.planning import Planned
    from rag_assets.indexing.sync_report import SyncReport
    from rag_assets.runtime import Runtime

_FORMAT = 1
_SETTLED_NS = 2_000_000_000
_TERMINALS = re.compile(
    "_|COLORTERM|COLUMNS|DBUS_SESSION_BUS_ADDRESS|DISPLAY|INVOCATION_ID|ITERM_.*|JOURNAL_STREAM|LINES|LS_COLORS|OLDPWD|PS1|PWD|SHLVL"
    "|(GNOME_TERMINAL|KITTY|SSH|VSCODE|WEZTERM|XDG_SESSION)_.*|STY|SYSTEMD_EXEC_PID|TERM(_.*)?|TMUX(_PANE)?|WAYLAND_DISPLAY|WINDOWID"
)
"""Variables that say which terminal or session a command was typed in. Every other one may mean something to a library."""
_UNCLEAR = (OSError, ValueError, LookupError, TypeError, RuntimeError, RagAssetsError)
"""Whatever is wrong with settings, files or a stamp, a sync that looks for itself says it better."""


class Stamp:
    """The stamp of calls like one that has just been made; make it before anything else is read."""

    def __init__(self, words: Sequence[str]) -> None:
        """``words``: the command's, after the name of the program."""
        self._words = tuple(words)
        self._began = time.time_ns()
        self._started = time.perf_counter()
        self._folders: _Folders | None = None
        self._files = ("", 0)
        # What is imported later may add to both.
        self._process = _Process(
            tuple(sorted(item for item in os.environ.items() if not _TERMINALS.fullmatch(item[0]))), tuple(sys.path)
        )
        self._call = self._now()

    def _now(self) -> "_Call | None":
        with suppress(*_UNCLEAR):
            return _Call.now(self._words, self._process)
        return None

    def told(self) -> str | None:
        """What the command prints, if nothing has changed since it found nothing to do; None: it has to look."""
        call = self._call
        if call is None:
            return None
        try:
            noted = json.loads(call.file.read_text(encoding="utf-8"))
            if noted["call"] != call.digest or noted["files"] != _Folders(**noted["folders"]).states().digest():
                return None
            if noted["database"] != _database(call, noted["cluster"]):
                return None
            if isinstance(noted["printed"], str):
                return noted["printed"]
            report = noted["printed"]
            report["seconds"]["total"] = round(time.perf_counter() - self._started, 3)
            return json.dumps(report, ensure_ascii=False)
        except _UNCLEAR:
            return None

    def begin(self, runtime: "Runtime", collection: str) -> None:
        """A sync is about to look."""
        with suppress(*_UNCLEAR):
            folders = _Folders.of(runtime, collection)
            if self._call is None or folders is None:
                return
            files = folders.states()
            if max(self._call.newest, files.newest) <= self._began - _SETTLED_NS:
                self._folders, self._files = folders, (files.digest(), files.newest)

    @contextmanager
    def remembering(self, same_settings: Callable[[], bool]) -> Iterator[None]:
        """Around the command's own writing of a settings' file; whoever reads the settings then has to find the ``same_settings``."""
        before = self._now()
        yield
        after = self._now()
        if after != self._call:
            self._call = after if before == self._call and same_settings() else None

    def write(
        self,
        runtime: "Runtime",
        planned: "Planned",
        report: "SyncReport",
        describe: Callable[["SyncReport"], str | None],
    ) -> None:
        """Note the state in which that sync found nothing to do, or would find nothing any more now that it is done.

        Nothing is noted if what it looked at can't be compared, or may have changed meanwhile. Nothing is raised: the sync is done.

        Args:
            runtime: the parts.
            planned: what was to be done.
            report: what was done.
            describe: what the command prints of a report; None: all of it, as JSON.
        """
        if self._call is None or self._folders is None:
            return
        with suppress(Exception, KeyboardInterrupt):
            database = runtime.database.state()
            if database is None or _is_elsewhere(runtime, report.collection):
                return
            found: tuple[Planned, SyncReport] | None = planned, report
            if database != runtime.database.state_when_opened:
                from rag_assets.indexing.sync import look_again

                found = look_again(runtime, report.collection)
            if found is not None and _is_nothing(*found):
                self._note(runtime, database, describe(found[1]), found[1])

    def _note(self, runtime: "Runtime", database: "state.State", text: str | None, report: "SyncReport") -> None:
        from dataclasses import asdict

        assert self._call is not None
        assert self._folders is not None
        call, files = self._now(), self._folders.states()
        # A folder that was away meanwhile, and is back, differs in when it changed alone.
        if call != self._call or (files.digest(), files.newest) != self._files:
            return
        cluster = None if call.postgres_url else _cluster(runtime)
        content = {
            "call": call.digest,
            "folders": self._folders._asdict(),
            "files": files.digest(),
            "database": database[0] if cluster else list(database),
            "cluster": cluster,
            "printed": asdict(report) if text is None else text,
        }
        _replace(call.file, json.dumps(content, default=str))


def _is_nothing(planned: "Planned", report: "SyncReport") -> bool:
    """Whether nothing is to be done, nothing that could not be read may be readable by now, and what the settings ask for is live: of
    another live index, another model decides whether it can follow."""
    unreadable = any(problem.unreadable for problem in planned.problems)
    return report.nothing_changed and not unreadable and report.generation["state"] == "live"


def _is_elsewhere(runtime: "Runtime", collection: str) -> bool:
    """Whether anything of the collection is outside of PostgreSQL: what could not be caught up with there is tried again by each sync."""
    from rag_assets.database import generations
    from rag_assets.stores.postgres import NAME

    with runtime.database.transaction() as connection:
        known = generations.all_generations(connection, collection)
    return any(runtime.store_of(generation).name != NAME for generation in known)


def _cluster(runtime: "Runtime") -> dict[str, str]:
    """How the state of the embedded database is found out, whether its server runs or not."""
    from rag_assets.database.location import existing_cluster

    found = existing_cluster(runtime.settings.home)
    if found is None:
        raise RagAssetsError("There is no embedded database.")
    return {"data": str(found.data), "url": found.url}


def _database(call: "_Call", cluster: Any) -> Any:
    """The state of the database, as a stamp has it."""
    if cluster is not None:
        return state.of_cluster(Path(cluster["data"]), cluster["url"]) if call.postgres_url is None else None
    told = state.asked(call.postgres_url) if call.postgres_url is not None else None
    return told and list(told)


def _replace(file: Path, text: str) -> None:
    import tempfile

    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, unfinished = tempfile.mkstemp(dir=file.parent, prefix=f"{file.name}-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as new:
            new.write(text)
        os.replace(unfinished, file)
    except OSError:
        os.unlink(unfinished)
        raise


class _Folders(NamedTuple):
    """Where the documents and the model are."""

    documents: str
    model: str

    @classmethod
    def of(cls, runtime: "Runtime", collection: str) -> "_Folders | None":
        """None if part of what a sync of the collection looks at is out of sight."""
        from rag_assets.embedding.model_files import bundled_folder

        settings, embedder = runtime.settings, runtime.settings.embedder
        source = settings.collection(collection).source
        model = bundled_folder(embedder.model) or Path(embedder.model).expanduser()
        if not isinstance(source, Path) or embedder.backend == "litellm" or not model.is_dir():
            return None
        if embedder.dtype == "auto" and any(_graphics()):
            return None
        return cls(str(source), str(model))

    def states(self) -> FileStates:
        """Of all files in them that a sync looks at."""
        files = FileStates()
        files.see_all(os.fsencode(self.documents))
        files.see_all(os.fsencode(self.model), ignored=True)
        return files


class _Process(NamedTuple):
    """What this process was given."""

    variables: tuple[tuple[str, str], ...]
    path: tuple[str, ...]


class _Call(NamedTuple):
    """How and where the command was called, as far as that can be known without validating settings."""

    file: Path
    """Where the stamp of such calls is."""
    postgres_url: str | None
    digest: str
    """Of words, environment, user and machine, and of the states of the settings' files, the program, and the folders that Python
    imports from: what is installed there, or removed, changes theirs."""
    newest: int
    """When any of these files changed last, in nanoseconds since the epoch."""

    @classmethod
    def now(cls, words: tuple[str, ...], process: _Process) -> "_Call":
        """The call with these words, as its files are now."""
        config = config_file.find_config()
        data = config_file.read_toml(config) if config else {}
        home = config_file.home_folder(data, config)
        read = [
            home / config_file.REMEMBERED_FILE,
            config_file.thresholds_file(data, config),
            home / "postgres" / "LOCATION",
        ]
        program = os.path.dirname(__file__)
        files = FileStates()
        files.see_all(os.fsencode(program))
        for path in (*map(str, [*read, *([config] if config else [])]), *process.path):
            files.see(path)
        place = (os.getcwd(), str(home), os.geteuid(), process.variables)
        python = (sys.version, sys.prefix, process.path)
        machine = (tuple(os.uname()), _boot(), *_graphics())
        name = _digest((words, os.environ.get("RAG_COLLECTION"), os.environ.get("RAG_SOURCE"), program))[:16]
        digest = _digest((_FORMAT, words, place, python, machine, files.digest()))
        url = os.environ.get("RAG_POSTGRES_URL") or data.get("postgres_url")
        return cls(home / "stamps" / f"{name}.json", url, digest, files.newest)


def _digest(parts: Iterable[object]) -> str:
    return hashlib.blake2b(repr(parts).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def _graphics() -> tuple[bool, bool]:
    """Whether there is an NVIDIA driver, or its tool."""
    tools = (os.path.join(folder, "nvidia-smi") for folder in os.get_exec_path())
    return os.path.exists("/proc/driver/nvidia"), any(map(os.path.exists, tools))


def _boot() -> str:
    """Which start of the machine this is: another may have another processor in it."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    return ""
