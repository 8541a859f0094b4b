"""One PostgreSQL cluster on disk: make it, configure it, start, probe and stop its server.

Authentication is ``peer`` through an ident map: the kernel says who connects, and only the server's own user and root
are let in, so there is no password to keep or leak. The server listens on one unix socket in a folder of mode 0700.

Nobody here trusts ``postmaster.pid``: it may name a dead process or, after a reboot, somebody else's.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import psycopg

from rag_assets.database.account import Account
from rag_assets.database.binaries import POSTGRES_MAJOR
from rag_assets.errors import ConfigurationError, RagAssetsError

ROLE = "rag"
"""Owner of the database of the same name; not a superuser. The superuser is ``postgres``."""
_SUPERUSER = "postgres"
_PORT = 5432
"""Part of the socket's name only; nothing listens on the network."""
SOCKET_NAME = f".s.PGSQL.{_PORT}"
_STOP_SECONDS = 120
_CONNECT_SECONDS = 3
_LOG_BYTES = 10_000_000
_MEGABYTE = 1 << 20

# The wheel's pgvector is not marked trusted, so only a superuser can create it: it is put into the template.
_BOOTSTRAP = f"""\
CREATE EXTENSION vector
CREATE ROLE {ROLE} LOGIN CREATEDB
CREATE DATABASE {ROLE} OWNER {ROLE}
"""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where a cluster is and who runs it. Paths are absolute."""

    data: Path
    socket_folder: Path
    log: Path
    account: Account

    @property
    def url(self) -> str:
        """libpq URL of the database ``rag``. It names the port, lest PGPORT of the environment changes it."""
        return f"postgresql://{ROLE}@/{ROLE}?host={quote(os.fsencode(self.socket_folder), safe='')}&port={_PORT}"

    def initialise(self, binaries: Path) -> None:
        """Make the cluster beside its final place and rename it there, so that an interrupted attempt leaves no trace.

        Raises:
            RagAssetsError: initdb failed; the message ends with its last words.
        """
        for leftover in self.data.parent.glob("unfinished-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        # A new name each time: an initdb that outlived its killed parent may still write to the last one.
        unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=self.data.parent))
        if os.geteuid() == 0:
            os.chown(unfinished, self.account.uid, self.account.gid)
        # C for what libc decides; PG_UNICODE_FAST folds and classifies by Unicode, whatever LANG says here.
        locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=PG_UNICODE_FAST"]
        access = [f"--username={_SUPERUSER}", "--auth-local=peer", "--auth-host=reject", "--data-checksums"]
        initdb: list[str | Path] = [binaries / "initdb", "-D", unfinished, *locale, *access, "--no-instructions"]
        self._run(initdb, "initialised")
        bootstrap: list[str | Path] = [
            binaries / "postgres",
            "--single",
            "-D",
            unfinished,
            "-c",
            "exit_on_error=on",
            "template1",
        ]
        self._run(bootstrap, "initialised", _BOOTSTRAP)
        unfinished.rename(self.data)
        # The rename is durable once the parent folder is.
        folder = os.open(self.data.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def configure(self) -> None:
        """Write the settings, the access rules and the ident map; they hold from the next start."""
        users = dict.fromkeys((self.account.name, "root"))
        mapped = "".join(f'rag "{user}" {role}\n' for user in users for role in (ROLE, _SUPERUSER))
        self._write("pg_ident.conf", mapped)
        self._write("pg_hba.conf", "local all all peer map=rag\n")
        self._write("rag_assets.conf", settings(self.socket_folder))
        main = self.data / "postgresql.conf"
        include = "include = 'rag_assets.conf'\n"
        text = main.read_text(encoding="utf-8")
        if include not in text:
            self._write(main.name, f"{text}\n{include}")

    def launch(self, binaries: Path) -> int:
        """Start the server and return its pid at once; ``probe`` tells when it is ready.

        A shell starts it in the background and ends, so that it is nobody's child here: no zombie, and no supervisor
        that ends a process with its children takes it down under others. It inherits no pipe, only the log file.
        """
        self.trim_log()
        self._clear_foreign_locks()
        with self._append_to_log() as log:
            done = subprocess.run(
                ["/bin/sh", "-c", '"$@" >&2 & echo $!', "sh", binaries / "postgres", "-D", self.data],
                stdout=subprocess.PIPE,
                stderr=log,
                check=True,
                **self.account.spawn_options(),
            )
        return int(done.stdout)

    def probe(self) -> str | None:
        """Connect as users do. None: the server accepts connections; else what it, or libpq, answered.

        Raises:
            RagAssetsError: it answered that it will never let us in.
        """
        try:
            psycopg.connect(self.url, connect_timeout=_CONNECT_SECONDS, autocommit=True).close()
        except psycopg.OperationalError as error:
            answer = " ".join(str(error).split())
            said = answer.partition("FATAL: ")[2]
            if "slots are reserved" in said or "too many clients" in said:
                return None
            if any(refusal in said for refusal in ("authentication failed", "does not exist", "no pg_hba.conf entry")):
                raise RagAssetsError(
                    f"The embedded PostgreSQL in {self.data} runs but refuses us: {answer}. Was it changed by hand? "
                    f"Its access rules are rewritten when it starts: stop it (pg_ctl stop -D {self.data}), try again."
                ) from None
            return answer
        return None

    def postmaster(self) -> int | None:
        """Pid of the live server process of this very data folder, else None."""
        pid = _first_line_pid(self.data / "postmaster.pid")
        return pid if pid is not None and self._is_postmaster(pid) else None

    def stop(self, binaries: Path) -> None:
        """Stop the server, if it runs: sessions are ended, committed work is flushed.

        Raises:
            RagAssetsError: it did not stop in two minutes.
        """
        # pg_ctl signals whatever pid the file names, so it is only called when that process is ours.
        if self.postmaster() is not None:
            waiting = ["-m", "fast", "-w", "-t", str(_STOP_SECONDS), "-s"]
            self._run([binaries / "pg_ctl", "stop", "-D", self.data, *waiting], "stopped")

    def log_tail(self, offset: int = 0, lines: int = 8) -> str:
        """The last lines the server logged after byte ``offset``."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(offset, self.log.stat().st_size - 20_000))
                return "\n".join(log.read().decode("utf-8", "replace").splitlines()[-lines:])
        except FileNotFoundError:
            return ""

    def log_size(self) -> int:
        """Bytes in the log."""
        return self.log.stat().st_size if self.log.exists() else 0

    def trim_log(self) -> None:
        """Keep the log under about 10 MB, and one older part of it.

        It is emptied in place, as logrotate's ``copytruncate`` does, because the server holds it open for appending.
        """
        if self.log_size() > _LOG_BYTES:
            shutil.copyfile(self.log, self.log.with_name(self.log.name + ".1"))
            os.truncate(self.log, 0)

    def check_version(self) -> None:
        """Raise ConfigurationError when another major version of PostgreSQL wrote ``data``."""
        found = (self.data / "PG_VERSION").read_text(encoding="ascii").strip()
        if found != str(POSTGRES_MAJOR):
            raise ConfigurationError(
                f"{self.data} was written by PostgreSQL {found}, but PostgreSQL {POSTGRES_MAJOR} is installed. Install "
                "the earlier version of rag-assets, or move the folder away and run `rag-assets sync` to build it anew."
            )

    def _is_postmaster(self, pid: int) -> bool:
        """Whether ``pid`` is a live ``postgres -D <data>``; the server's children carry other titles."""
        if sys.platform == "linux":
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                return False
            return words[0].endswith(b"postgres") and words[1:3] == [b"-D", os.fsencode(self.data)]
        shown = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return shown.stdout.strip().endswith(f"postgres -D {self.data}")

    def _clear_foreign_locks(self) -> None:
        """Remove lock files that name no server of ours: one with a live pid would keep PostgreSQL from starting.

        Two servers on one folder stay impossible without them: PostgreSQL also refuses while any process is attached to
        the shared memory that belongs to the folder's inode (PGSharedMemoryCreate in its sysv_shmem.c).
        """
        for file in (self.data / "postmaster.pid", self.socket_folder / f"{SOCKET_NAME}.lock"):
            pid = _first_line_pid(file)
            if pid is None or not self._is_postmaster(pid):
                file.unlink(missing_ok=True)

    def _write(self, name: str, text: str) -> None:
        """Replace a file of ``data``. Root never writes through a name that the server's user controls."""
        descriptor, temporary = tempfile.mkstemp(prefix=f"{name}.", dir=self.data)
        with open(descriptor, "wb") as file:
            if os.geteuid() == 0:
                os.fchown(descriptor, self.account.uid, self.account.gid)
            file.write(os.fsencode(text))
        os.replace(temporary, self.data / name)

    def _append_to_log(self) -> BinaryIO:
        """Statements of users get into the log, so it is closed to others."""
        return open(os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600), "ab")

    def _run(self, command: Sequence[str | Path], what: str, statements: str | None = None) -> None:
        """Run a program of PostgreSQL's with its output in the log."""
        offset = self.log_size()
        options = self.account.spawn_options()
        if statements is not None:
            options = {**options, "input": statements.encode("ascii")}
            del options["stdin"]
        with self._append_to_log() as log:
            done = subprocess.run(command, stdout=log, stderr=log, check=False, **options)
        if done.returncode != 0:
            raise RagAssetsError(
                f"The embedded PostgreSQL in {self.data} could not be {what}:\n{self.log_tail(offset)}\n"
                f"Correct what it names and try again; the whole log is {self.log}."
            )


def is_complete(data: Path) -> bool:
    """Whether ``data`` holds a cluster that a server can start from."""
    return (data / "PG_VERSION").is_file() and (data / "global" / "pg_control").is_file()


def settings(socket_folder: Path) -> str:
    """The text of ``rag_assets.conf``; ``ALTER SYSTEM`` overrides it.

    Parallel index builds need shared memory segments as large as ``maintenance_work_mem``, and containers often have
    64 MB of /dev/shm: below 1 GB they are files instead. A search reads a graph's pages at random, so that buffers should hold
    them: a million vectors with 384 dimensions take 2.3 GB with their rows. Memory of buffers that hold nothing is not taken.
    """
    quoted = str(socket_folder).replace("\\", "\\\\").replace("'", "''")
    small = sys.platform == "linux" and _free_shared_memory() < 1 << 30
    lines = [
        "listen_addresses = ''",
        f"port = {_PORT}",
        f"unix_socket_directories = '{quoted}'",
        "unix_socket_permissions = 0700",
        "max_connections = 100",
        f"shared_buffers = {min(2048, _memory() // 4 // _MEGABYTE)}MB",
        f"effective_cache_size = {_memory() * 3 // 4 // _MEGABYTE}MB",
        "maintenance_work_mem = 512MB",
        "max_wal_size = 1GB",
        # Beside the process that leads: an HNSW graph is built by all of them.
        f"max_parallel_maintenance_workers = {min(8, os.cpu_count() or 2)}",
        f"dynamic_shared_memory_type = {'mmap' if small else 'posix'}",
        "fsync = on",
        "synchronous_commit = on",
        "jit = off",
        "timezone = 'UTC'",
        "log_timezone = 'UTC'",
        "log_checkpoints = off",
    ]
    return "\n".join(lines) + "\n"


def _memory() -> int:
    """Bytes of memory we may use: the machine's, or the container's limit (cgroup v2) if lower."""
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):  # "max" and a missing file both mean: no limit
        return min(installed, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return installed


def _free_shared_memory() -> int:
    try:
        return shutil.disk_usage("/dev/shm").free
    except OSError:
        return 0


def _first_line_pid(file: Path) -> int | None:
    try:
        first = file.read_text(encoding="utf-8", errors="replace").partition("\n")[0].strip()
    except OSError:
        return None
    return int(first) if first.isdecimal() else None
