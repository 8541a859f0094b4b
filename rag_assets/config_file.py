"""Where the settings file and the home folder are, found without what it takes to validate settings."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rag_assets.errors import ConfigurationError

CONFIG_FILE = "rag_assets.toml"
THRESHOLDS_FILE = "evals/thresholds.toml"
REMEMBERED_FILE = "collections.json"
"""In the home folder: the sources that commands were given with ``--source``."""


def find_config(start: Path | None = None) -> Path | None:
    """The settings file in force: ``RAG_CONFIG``, else ``rag_assets.toml`` in ``start`` (default: here) or above it."""
    named = os.environ.get("RAG_CONFIG")
    if named:
        path = Path(named).expanduser().absolute()
        if not path.is_file():
            raise ConfigurationError(f"RAG_CONFIG names {path}, which is not a file. Correct or unset it.")
        return path
    folder = (start or Path.cwd()).absolute()
    for candidate in (folder, *folder.parents):
        if (candidate / CONFIG_FILE).is_file():
            return candidate / CONFIG_FILE
    return None


def anchor_of(config: Path | None) -> Path:
    """The folder that relative paths of the settings start from."""
    return config.parent if config else Path.cwd()


def home_folder(data: Mapping[str, Any], config: Path | None) -> Path:
    """The folder of all state, by the environment and the content of the settings file; absolute."""
    home = Path(os.environ.get("RAG_HOME") or data.get("home") or ".rag").expanduser()
    return home if home.is_absolute() else (Path.cwd() if os.environ.get("RAG_HOME") else anchor_of(config)) / home


def thresholds_file(data: Mapping[str, Any], config: Path | None) -> Path:
    """The thresholds file of a settings file: the one it names, else the one that is read where it exists."""
    named = data.get("thresholds")
    return anchor_of(config) / Path(named if isinstance(named, str) else THRESHOLDS_FILE).expanduser()


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        ConfigurationError: it can't be read, or is not TOML.
    """
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from None
    except OSError as error:
        raise ConfigurationError(f"{path} can't be read: {error.strerror}.") from None
