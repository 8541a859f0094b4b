"""The stamp of a sync that found nothing to do.

What such a sync finds follows from what it looks at: how it was called, the settings, the program, the model's files, the documents, and
the database. It notes the state of all that; while every part of it is the same, the next sync would find the same, and says so without
loading what it takes to look. This module therefore imports neither settings nor a database driver at its top.

Files are compared by their states, and only if none had changed within two seconds before the sync that noted them began, lest it change
again without its times showing it ("racy git"). A database is the same if it has the same system identifier, and if no transaction has
begun to write since that sync opened it: each takes the next number of one sequence.

Nothing over a network is taken to be unchanged: such a source, store or model has no stamp.
"""

import hashlib
import json
import os
import re
import shutil
import struct
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_assets import config_file
from rag_assets.errors import RagAssetsError
from rag_assets.file_states import FileStates

if TYPE_CHECKING:
    from rag_assets.indexing.planning import Planned
    from rag_assets.indexing.sync_report import SyncReport
    from rag_assets.runtime import Runtime

Identity = tuple[str, int, int]
DATABASE_STATE = """
SELECT system_identifier || '/' || timeline_id || '/' || pg_snapshot_xmax(snapshot)
FROM pg_control_system(), pg_control_checkpoint(), pg_current_snapshot() AS snapshot
WHERE pg_snapshot_xmin(snapshot) = pg_snapshot_xmax(snapshot)
"""
"""The number of the first transaction that has not ended. No row: one with a lower number is still writing; what it will have written
is not told from what there is."""
_CONTROL = struct.Struct("=qI4xi20x8xI4x8xQ")
"""Of PostgreSQL 18's ``ControlFileData`` (src/include/catalog/pg_control.h): system_identifier, pg_control_version, state, and of
the last checkpoint ThisTimeLineID and nextXid, all in the machine's own byte order."""
_CONTROL_VERSION = 1800
_SHUT_DOWN = 1
_FORMAT = 1
_SETTLED_NS = 2_000_000_000
_CONNECT_SECONDS = 2
_TERMINALS = re.compile(
    "_|COLORTERM|COLUMNS|DBUS_SESSION_BUS_ADDRESS|DISPLAY|INVOCATION_ID|JOURNAL_STREAM|LINES|LS_COLORS|OLDPWD|PS1|PWD|SHLVL"
    "|SSH_(AUTH_SOCK|CLIENT|CONNECTION|TTY)|STY|SYSTEMD_EXEC_PID|TERM(_.*)?|TMUX(_PANE)?|WAYLAND_DISPLAY|WINDOWID|XDG_SESSION_.*"
)
"""Variables that say which terminal or session a command was typed in. Every other one may mean something to a library."""


class Stamp:
    """The stamp of calls like one that has just been made; make it before anything else is read."""

    def __init__(self, source: object, collection: str | None) -> None:
        """``source`` and ``collection`` are the command's options."""
        self._arguments = (repr(source), repr(collection))
        self._began = time.time_ns()
        self._started = time.perf_counter()
        self._call: _Call | None = None
        self._folders: Mapping[str, Identity] = {}
        with suppress(OSError, RagAssetsError):
            self._call = _Call.now(self._arguments)

    def report(self) -> dict[str, Any] | None:
        """What a sync would report, if nothing has changed since one that found nothing to do; None: it has to look."""
        call = self._call
        if call is None:
            return None
        try:
            noted = json.loads(call.file.read_text(encoding="utf-8"))
            if noted["call"] != call.digest or noted["files"] != _below(noted["folders"]).digest():
                return None
            if noted["database"] != _database_state(call.postgres_url, noted["cluster"]):
                return None
            report: dict[str, Any] = noted["report"]
            return {**report, "seconds": {**report["seconds"], "total": round(time.perf_counter() - self._started, 3)}}
        except (OSError, ValueError, LookupError, TypeError, AttributeError, struct.error):
            # Whatever is wrong, a sync that looks for itself says it better.
            return None

    def begin(self, runtime: "Runtime", collection: str) -> None:
        """A sync is about to look."""
        with suppress(OSError, RagAssetsError):
            self._folders = {folder: _identity(folder) for folder in _folders(runtime, collection)}

    def write(self, runtime: "Runtime", planned: "Planned", report: "SyncReport") -> None:
        """Note the state in which that sync found nothing to do; nothing is noted if it did something, or if what it looked at can't
        be compared, or may have changed meanwhile."""
        state = runtime.database.state_when_opened
        if self._call is None or not self._folders or state is None or not _found_nothing(planned, report):
            return
        with suppress(OSError, RagAssetsError):
            call, files = _Call.now(self._arguments), _below(self._folders)
            same = call == self._call and all(_identity(folder) == it for folder, it in self._folders.items())
            if not same or max(call.newest, files.newest) > self._began - _SETTLED_NS:
                return
            content = {
                "call": call.digest,
                "folders": list(self._folders),
                "files": files.digest(),
                "database": state,
                "cluster": None if call.postgres_url else _cluster(runtime),
                "report": asdict(report),
            }
            _replace(call.file, json.dumps(content, default=str))


def _found_nothing(planned: "Planned", report: "SyncReport") -> bool:
    """Whether nothing was to be done, nothing was held back, and nothing that could not be read may be readable by now."""
    plan = planned.plan
    return (
        report.nothing_changed
        and not (plan.changes or plan.touched or plan.withheld or plan.kept_unreadable)
        and planned.complete
        and planned.listing.complete
        and not any(problem.unreadable for problem in planned.problems)
        and report.generation["state"] == "live"
    )


def _folders(runtime: "Runtime", collection: str) -> list[str]:
    """The documents and the model; none if part of what a sync looks at is out of sight."""
    from rag_assets.embedding.model_files import BUNDLED, model_folder
    from rag_assets.models import ServedEmbedder

    settings = runtime.settings
    source, model = settings.collection(collection).source, settings.embedder.model
    if not isinstance(source, Path) or settings.store_of(collection) != "pgvector":
        return []
    if isinstance(runtime.embedder, ServedEmbedder) or not (model in BUNDLED or Path(model).expanduser().is_dir()):
        return []
    return [str(source), str(model_folder(model))]


def _cluster(runtime: "Runtime") -> dict[str, str]:
    """How the state of the embedded database is found out, whether its server runs or not."""
    from rag_assets.database.location import existing_cluster

    found = existing_cluster(runtime.settings.home)
    if found is None:
        raise RagAssetsError("There is no embedded database.")
    return {"url": found.url, "data": str(found.data)}


def _replace(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, unfinished = tempfile.mkstemp(dir=file.parent, prefix=f"{file.name}-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as new:
            new.write(text)
        os.replace(unfinished, file)
    except OSError:
        os.unlink(unfinished)
        raise


@dataclass(frozen=True, slots=True)
class _Call:
    """How and where the command was called, as far as that can be known without validating settings."""

    file: Path
    """Where the stamp of such calls is."""
    postgres_url: str | None
    digest: str
    """Of arguments, environment, user, machine, and the states of the settings' files, the program and all that is installed."""
    newest: int
    """When any of these files changed last, in nanoseconds since the epoch."""

    @classmethod
    def now(cls, arguments: tuple[str, str]) -> "_Call":
        """The call with these arguments."""
        config = config_file.find_config()
        data = config_file.read_toml(config) if config else {}
        home = config_file.home_folder(data, config)
        read = [
            home / config_file.REMEMBERED_FILE,
            config_file.thresholds_file(data, config),
            *([config] if config else []),
        ]
        files = _below([os.path.dirname(__file__)])
        for path in (*map(str, read), *sys.path):
            files.see(path)
        place = (os.getcwd(), str(home), os.geteuid(), sorted(_environment()))
        python = (sys.version, sys.prefix, sys.path)
        machine = (tuple(os.uname()), _boot(), shutil.which("nvidia-smi"), os.path.exists("/proc/driver/nvidia"))
        text = repr((_FORMAT, arguments, place, python, machine, files.digest()))
        name = hashlib.blake2b(repr(arguments).encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
        digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
        url = os.environ.get("RAG_POSTGRES_URL") or data.get("postgres_url")
        return cls(home / "stamps" / f"{name}.json", url, digest, files.newest)


def _environment() -> Iterator[tuple[str, str]]:
    return (item for item in os.environ.items() if not _TERMINALS.fullmatch(item[0]))


def _below(folders: Iterable[str]) -> FileStates:
    files = FileStates()
    for folder in folders:
        files.see_all(os.fsencode(folder))
    return files


def _identity(folder: str) -> Identity:
    """Which folder a path leads to."""
    found = os.stat(folder)
    return os.path.realpath(folder), found.st_dev, found.st_ino


def _database_state(postgres_url: str | None, cluster: Mapping[str, str] | None) -> str | None:
    """As ``DATABASE_STATE``; of an embedded server that does not run, from what it wrote down when it was shut down."""
    if cluster is None:
        return None if postgres_url is None else _asked(postgres_url)
    if postgres_url is not None:
        return None
    if os.path.exists(os.path.join(cluster["data"], "postmaster.pid")):
        return _asked(cluster["url"])
    with open(os.path.join(cluster["data"], "global", "pg_control"), "rb") as file:
        identifier, version, state, timeline, transaction = _CONTROL.unpack(file.read(_CONTROL.size))
    return f"{identifier}/{timeline}/{transaction}" if (version, state) == (_CONTROL_VERSION, _SHUT_DOWN) else None


def _asked(url: str) -> str | None:
    # It is imported sooner than psycopg 3 is, and is there: Dagster's storage needs it.
    import psycopg2

    try:
        connection = psycopg2.connect(url, connect_timeout=_CONNECT_SECONDS)
    except psycopg2.Error:
        return None
    try:
        with connection.cursor() as cursor:
            cursor.execute(DATABASE_STATE)
            row = cursor.fetchone()
    except psycopg2.Error:
        return None
    finally:
        connection.close()
    return None if row is None else str(row[0])


def _boot() -> str:
    """Which start of the machine this is: another may have another processor in it."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    return ""
