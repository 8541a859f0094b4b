"""Where the embedded cluster of a home lies, and making it there.

Everything is in ``<home>/postgres``, except for root: the service user may be unable to enter that folder, and opening
its parents to it would open them to everybody. The cluster is then in ``/var/lib/rag-assets/<hash of home>`` and the
file ``LOCATION`` says so. What it says holds from then on: a home that becomes reachable must not lose its data.
"""

import os
from pathlib import Path

from rag_assets.database.account import Account, account_of, server_account, service_folder
from rag_assets.database.binaries import binaries_for
from rag_assets.database.cluster import SOCKET_NAME, Cluster, is_complete
from rag_assets.database.lease import not_ours
from rag_assets.errors import ConfigurationError
from rag_assets.fingerprint import hash_bytes

_LOCATION = "LOCATION"
_SOCKET_PATH_LIMIT = 100
"""Bytes. The kernel's limit for ``sun_path`` is 108 on Linux and 104 on macOS, with the final NUL (unix(7))."""
_SHORT_FOLDERS = Path("/tmp")
"""Not ``tempfile.gettempdir()``: processes with different TMPDIR must find the same server."""


def control_folder(home: Path) -> Path:
    """The folder of the lock, the leases and the log."""
    return home / "postgres"


def make_control_folder(home: Path) -> Path:
    """Create the control folder, closed to others.

    Raises:
        ConfigurationError: it can't be created.
    """
    control = control_folder(home)
    try:
        home.mkdir(parents=True, exist_ok=True)
        control.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"{control}, the folder of the embedded PostgreSQL, can't be created: {error.strerror}. "
            "Set RAG_HOME to a folder you can write, or RAG_POSTGRES_URL to another server."
        ) from None
    return control


def existing_cluster(home: Path) -> Cluster | None:
    """The whole cluster of this home, run by whoever owns its data; None when there is none yet.

    Raises:
        ConfigurationError: it belongs to another user, or to root.
    """
    control = control_folder(home)
    try:
        state = _noted_state(control) or control
        return _cluster(state, control, _owner(state / "data")) if is_complete(state / "data") else None
    except PermissionError:
        raise not_ours(control) from None


def make_cluster(home: Path) -> Cluster:
    """Create the cluster of a home that has none. Call under the lock.

    A data folder that is no whole cluster is moved aside, never deleted: it may be somebody's damaged data.

    Raises:
        ConfigurationError: no user can run it, or the programs are missing.
        RagAssetsError: initdb failed.
    """
    control = control_folder(home)
    account = server_account()
    state = _choose_state(control, account)
    cluster = _cluster(state, control, account)
    if cluster.data.exists():
        cluster.data.rename(_free_name(cluster.data))
    cluster.initialise(binaries_for(account))
    return cluster


def make_socket_folder(cluster: Cluster) -> None:
    """Create the socket's folder, mode 0700, for the server's user.

    Raises:
        ConfigurationError: something of another user's is in its place.
    """
    folder, account = cluster.socket_folder, cluster.account
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if folder.is_symlink() or not folder.is_dir() or found.st_uid not in (account.uid, os.geteuid()):
        raise ConfigurationError(
            f"{folder}, the folder for PostgreSQL's socket, belongs to uid {found.st_uid}, not to {account.name!r}. "
            "Remove it, or set RAG_HOME to a shorter path (a socket's path has at most 100 characters)."
        )
    if os.geteuid() == 0:
        os.chown(folder, account.uid, account.gid, follow_symlinks=False)
    folder.chmod(0o700)


def _cluster(state: Path, control: Path, account: Account) -> Cluster:
    return Cluster(state / "data", _socket_folder(state), control / "server.log", account)


def _owner(data: Path) -> Account:
    uid = data.stat().st_uid
    if uid == 0:
        raise ConfigurationError(
            f"{data} belongs to root, but PostgreSQL refuses to run as root. Give it to the user who shall run it: "
            f"chown -R rag-assets {data}"
        )
    return account_of(uid)


def _noted_state(control: Path) -> Path | None:
    """What LOCATION says: its last line."""
    try:
        lines = (control / _LOCATION).read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not lines or not lines[-1].startswith("/"):
        raise ConfigurationError(
            f"{control / _LOCATION} is damaged: its last line must be the absolute path of the folder that holds the "
            "database. Correct it, or delete it to begin with an empty database."
        )
    return Path(lines[-1])


def _choose_state(control: Path, account: Account) -> Path:
    if account.uid == os.geteuid():
        return control
    noted = _noted_state(control)
    near = noted is None and account.reaches(control.parent)
    state = control if near else noted or service_folder(hash_bytes(os.fsencode(control))[:16])
    # Root's, so that the service user can't exchange what root works on; the group lets it pass, nobody else.
    state.mkdir(mode=0o710, exist_ok=True)
    os.chown(state, 0, account.gid)
    state.chmod(0o710)
    if near:
        return state
    note = f"The user {account.name} runs the database of this home and can't enter this folder. It is in:\n{state}\n"
    (control / _LOCATION).write_text(note, encoding="utf-8", errors="surrogateescape")
    return state


def _socket_folder(state: Path) -> Path:
    """``<state>/run``, unless a socket in it would be too long a path, or libpq would read it as a list of hosts."""
    folder = state / "run"
    length = len(os.fsencode(folder)) + len("/" + SOCKET_NAME)
    if length <= _SOCKET_PATH_LIMIT and str(folder).isprintable() and "," not in str(folder):
        return folder
    return _SHORT_FOLDERS / f"rag-assets-{hash_bytes(os.fsencode(state))[:16]}"


def _free_name(path: Path) -> Path:
    names = (path.with_name(f"{path.name}.damaged-{number}") for number in range(1, 1_000_000))
    return next(name for name in names if not name.exists())
