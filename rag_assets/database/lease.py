"""Who uses the embedded server: one file per live process, and the lock under which that is decided.

A lease names a process by pid *and* start time, so that a killed holder, or a later process that was given its pid,
is recognised. Nothing here knows PostgreSQL.
"""

import errno
import fcntl
import os
import re
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rag_assets.errors import ConfigurationError, RagAssetsError

_POLL_SECONDS = 0.05
_thread_locks: defaultdict[Path, threading.RLock] = defaultdict(threading.RLock)
# A fork copies a lock that another thread holds, but not the thread that would release it.
os.register_at_fork(after_in_child=_thread_locks.clear)


def start_time(pid: int) -> str | None:
    """A token that is equal for two looks at one process and differs for two processes given the same pid.

    Linux: field 22 of ``/proc/<pid>/stat`` (clock ticks since boot, see proc(5)); elsewhere ``ps -o lstart=``.
    None when there is no such process, or only its zombie.
    """
    if Path("/proc/self/stat").exists():
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        # The command, field 2, may itself hold spaces and parentheses: count from the last parenthesis (field 3 on).
        fields = stat[stat.rindex(")") + 1 :].split()
        return None if fields[0] in "ZX" else fields[19]
    shown = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False, env={"LC_ALL": "C"}
    ).stdout.strip()
    if not shown or shown.startswith("Z"):
        return None
    return re.sub(r"\W+", "_", shown.split(maxsplit=1)[1])


def not_ours(folder: Path) -> ConfigurationError:
    """The error for a folder that another user keeps closed to us."""
    return ConfigurationError(
        f"{folder} belongs to another user (we are uid {os.geteuid()}): the embedded PostgreSQL in it can't be used. "
        "Run as its owner, or set RAG_HOME to a folder of your own."
    )


@contextmanager
def exclusive(path: Path, *, deadline: float, waiting: Callable[[float], None]) -> Iterator[None]:
    """Hold the lock file ``path`` against every other thread and process.

    POSIX record locks are used because a forked child does not inherit them and a killed holder drops them.
    ``waiting`` is called with the seconds waited so far, about twenty times a second.

    Raises:
        ConfigurationError: the lock file belongs to another user.
        RagAssetsError: another process held the lock for ``deadline`` seconds.
    """
    with _thread_locks[path]:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except PermissionError:
            raise not_ours(path.parent) from None
        try:
            _lock(descriptor, path, deadline, waiting)
            yield
        finally:
            os.close(descriptor)


def _lock(descriptor: int, path: Path, deadline: float, waiting: Callable[[float], None]) -> None:
    began = time.monotonic()
    while True:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
        waited = time.monotonic() - began
        if waited > deadline:
            raise RagAssetsError(
                f"Another process has been starting or stopping the embedded PostgreSQL for {waited:.0f} s "
                f"(it holds {path}). Wait for it, or end it: `fuser {path}` names it."
            )
        waiting(waited)
        time.sleep(_POLL_SECONDS)


class Leases:
    """The leases of one server: files ``<pid>-<start time>`` in a folder. Call under ``exclusive``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _file(self) -> Path:
        pid = os.getpid()
        return self.folder / f"{pid}-{start_time(pid)}"

    def take(self) -> None:
        """Note that this process uses the server; taking it again changes nothing."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        file = self._file()
        file.write_text(file.name.replace("-", "\n", 1) + "\n", encoding="ascii")

    def drop(self) -> None:
        """Note that this process does not use the server any more."""
        self._file().unlink(missing_ok=True)

    def live_holders(self) -> list[int]:
        """Pids of the live holders, ascending; the leases of dead processes are removed on the way."""
        holders = []
        for file in self.folder.glob("*-*"):
            pid, _, token = file.name.partition("-")
            if pid.isdecimal() and start_time(int(pid)) == token:
                holders.append(int(pid))
            else:
                with suppress(FileNotFoundError):
                    file.unlink()
        return sorted(holders)
