"""Reads the settings file and the environment, and says everything that is wrong with them."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from rag_assets.config_file import (
    CONFIG_FILE,
    REMEMBERED_FILE,
    anchor_of,
    find_config,
    home_folder,
    read_toml,
    thresholds_file,
)
from rag_assets.errors import ConfigurationError
from rag_assets.settings.model import DEFAULT_COLLECTION, Settings
from rag_assets.settings.sections import GateSettings
from rag_assets.settings.source_urls import is_url, redacted


def load_settings(
    *, source: str | Path | None = None, collection: str | None = None, remember: bool = False
) -> Settings:
    """Read the settings in force.

    A ``source`` (or ``RAG_SOURCE``) defines the collection ``collection`` (or ``RAG_COLLECTION``, default ``default``);
    with ``remember`` it is written to ``<home>/collections.json``, so that later commands and the Dagster UI know it.

    Raises:
        ConfigurationError: naming every field that is wrong, its value and what is allowed.
    """
    config = find_config()
    data: dict[str, Any] = read_toml(config) if config else {}
    anchor = anchor_of(config)
    tables = data.get("collections", {})
    if not isinstance(data.get("home", ""), str) or not isinstance(tables, dict):
        return _validated(data, config)  # raises: what follows works on these two before they are validated
    data["home"] = home = home_folder(data, config)
    if os.environ.get("RAG_POSTGRES_URL"):
        data["postgres_url"] = os.environ["RAG_POSTGRES_URL"]

    remembered = _read_remembered(home)
    collections: dict[str, Any] = tables | {n: {"source": p} for n, p in remembered.items() if n not in tables}
    named_source = source or os.environ.get("RAG_SOURCE")
    # The variable never changes the folder of a collection that has one and is merely named by a command.
    named = collection if source or collection not in collections else None
    name = named or os.environ.get("RAG_COLLECTION") or DEFAULT_COLLECTION
    if named_source:
        place = named_source if is_url(named_source) else Path(named_source).expanduser().absolute()
        configured = tables.get(name, {})
        collections[name] = {**configured, "source": place} if isinstance(configured, dict) else configured
        remembered = remembered if name in tables else {**remembered, name: str(place)}
    data["collections"] = {key: _anchored(value, anchor) for key, value in collections.items()}
    if isinstance(data.get("answers"), dict):
        data["answers"] = _anchored(data["answers"], anchor)
    if config:
        _add_thresholds(data, config)
    settings = _validated(data, config)
    if named_source and remember and remembered != _read_remembered(home):
        _write_remembered(home, remembered)
    return settings


def _validated(data: Mapping[str, Any], config: Path | None) -> Settings:
    try:
        return Settings(**data)
    except ValidationError as error:
        raise ConfigurationError(_explain(error, config)) from None


class _Thresholds(GateSettings):
    """A thresholds file."""

    collections: dict[str, GateSettings] = Field({})


def _add_thresholds(data: dict[str, Any], config: Path) -> None:
    """Lay the thresholds file over ``[gates]``, and what it says of a collection over that."""
    path = thresholds_file(data, config)
    if data.get("thresholds") is None and not path.is_file():
        return
    data["thresholds"] = path
    try:
        stated = _Thresholds(**read_toml(path)).model_dump(exclude_unset=True)
    except ValidationError as error:
        raise ConfigurationError(_explain(error, path, _Thresholds)) from None
    of_collections = stated.pop("collections", {})
    strangers = sorted(of_collections.keys() - data["collections"].keys())
    if strangers:
        raise ConfigurationError(
            f"{path}: there is no collection {', '.join(strangers)} (known: {', '.join(sorted(data['collections']))}). "
            f"Correct the name, add the collection to {CONFIG_FILE}, or delete its thresholds: they protect nothing."
        )
    common = data["gates"] = _laid_over(data.get("gates") or {}, stated)
    for name, collection in data["collections"].items():
        if not isinstance(collection, Mapping):
            continue  # validation names it
        own = _laid_over(collection.get("gates") or {}, of_collections.get(name, {}))
        if own:
            data["collections"][name] = {**collection, "gates": _laid_over(common, own)}


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both, the second where they differ; of tables, key by key."""
    merged = dict(below)
    for key, value in above.items():
        before = merged.get(key)
        merged[key] = {**before, **value} if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return merged


def _anchored(section: Any, anchor: Path) -> Any:
    """Make the relative paths of a section relative to the settings file instead of the working directory."""
    if not isinstance(section, Mapping):
        return section
    anchored = dict(section)
    for key in ("source", "questions", "baseline", "models"):
        if isinstance(anchored.get(key), str | Path) and not is_url(anchored[key]):
            anchored[key] = anchor / Path(anchored[key]).expanduser()
    return anchored


def _remembered_path(home: Path) -> Path:
    return home / REMEMBERED_FILE


def _read_remembered(home: Path) -> dict[str, str]:
    path = _remembered_path(home)
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        value = None
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise ConfigurationError(f"{path} is damaged. Delete it and run `rag-assets sync --source DIR` again.")
    return value


def _write_remembered(home: Path, remembered: Mapping[str, str]) -> None:
    home.mkdir(parents=True, exist_ok=True)
    path = _remembered_path(home)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(remembered, indent=2, ensure_ascii=True) + "\n", encoding="utf-8")
    temporary.replace(path)


def _explain(error: ValidationError, config: Path | None, model: type[BaseModel] = Settings) -> str:
    lines = [f"{config or 'The settings'}: {error.error_count()} setting(s) are wrong:"]
    for problem in error.errors():
        field = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            lines.append(
                f"  {field}: there is no such setting; known here: {', '.join(_known_fields(problem['loc'], model))}"
            )
        elif problem["type"] == "missing":
            lines.append(f"  {field}: is required but not set")
        else:
            lines.append(f"  {field} = {redacted(problem['input'])}: {problem['msg']}")
    return "\n".join(lines)


def _known_fields(location: tuple[int | str, ...], model: type[BaseModel]) -> list[str]:
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        if field is None:
            continue
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), model)
    return sorted(model.model_fields)
