"""Which user runs the server.

PostgreSQL refuses to run as root. Root therefore runs it as a service user, and never opens a folder to others for
that: what the service user can't reach is put (data) or copied (binaries) under ``/var/lib/rag-assets``.
"""

import os
import pwd
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rag_assets.errors import ConfigurationError

SERVICE_ROOT = Path("/var/lib/rag-assets")
SERVICE_USER = "rag-assets"


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine."""

    name: str
    uid: int
    gid: int

    def spawn_options(self) -> dict[str, Any]:
        """Keyword arguments for ``subprocess`` that start a program as this user, detached from us.

        Its own session keeps Ctrl-C away; the environment is emptied, because a server lives long and the settings
        (PG*) and secrets of whoever happened to start it are none of its business.
        """
        options: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "cwd": "/",
            "env": {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"},
            "start_new_session": True,
        }
        if self.uid != os.geteuid():
            options |= {"user": self.uid, "group": self.gid, "extra_groups": []}
        return options

    def can(self, *command: str | Path) -> bool:
        """Whether ``command`` succeeds as this user."""
        try:
            done = subprocess.run(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False, **self.spawn_options()
            )
        except PermissionError:
            return False
        return done.returncode == 0

    def reaches(self, folder: Path) -> bool:
        """Whether this user can enter ``folder``."""
        return self.can("/bin/sh", "-c", 'cd "$1"', "sh", folder)


def account_of(uid: int) -> Account:
    """The account with this uid.

    Raises:
        ConfigurationError: it has no entry in the user database, which PostgreSQL insists on.
    """
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise ConfigurationError(
            f"User id {uid} has no name on this machine, and PostgreSQL refuses to run as a nameless user. "
            "Add it to /etc/passwd (in a container: useradd in the image), or set RAG_POSTGRES_URL to another server."
        ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def server_account() -> Account:
    """The user a new server runs as: ourselves, or, for root, a service user (created when there is none)."""
    if os.geteuid() != 0:
        return account_of(os.geteuid())
    created = _named(SERVICE_USER) or _create_service_user()
    account = created or _named("postgres") or _named("nobody")
    if account is None:
        raise ConfigurationError(
            f"PostgreSQL refuses to run as root, and the user {SERVICE_USER!r} could not be created. "
            f"Create it (useradd --system {SERVICE_USER}), or run as an ordinary user."
        )
    return account


def _named(name: str) -> Account | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _create_service_user() -> Account | None:
    useradd = shutil.which("useradd")
    if useradd is None:
        return None
    try:
        lock = service_folder("user.lock")
    except ConfigurationError:
        return None
    from filelock import FileLock

    command = [useradd, "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", SERVICE_USER]
    # Of two at once, the later useradd gives the same user another number, when a server may already run under the first.
    with FileLock(lock):
        for _ in range(5):
            account = _named(SERVICE_USER)
            if account is not None:
                return account
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
            if done.returncode != 0:
                # Another program may be changing the users.
                time.sleep(0.2)
        return _named(SERVICE_USER)


def service_folder(name: str) -> Path:
    """``/var/lib/rag-assets/<name>``; the parent is created root-owned, mode 0755.

    Raises:
        ConfigurationError: the parent belongs to somebody else, or can't be created or written.
    """
    try:
        SERVICE_ROOT.mkdir(mode=0o755, parents=True, exist_ok=True)
        if SERVICE_ROOT.is_symlink() or SERVICE_ROOT.stat().st_uid != 0:
            raise ConfigurationError(f"{SERVICE_ROOT} must be a folder of root's. Remove it, or give it back to root.")
        SERVICE_ROOT.chmod(0o755)
    except OSError as error:
        raise ConfigurationError(
            f"{SERVICE_ROOT}, the place for what PostgreSQL's service user must reach, can't be created or written: "
            f"{error.strerror}. Run as an ordinary user, or set RAG_POSTGRES_URL to another server."
        ) from None
    return SERVICE_ROOT / name
