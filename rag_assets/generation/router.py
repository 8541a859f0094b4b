"""The models that can answer: a LiteLLM router built from a model list in LiteLLM's own YAML format.

    model_list:
      - model_name: gpt-4o-mini
        litellm_params: {model: openai/gpt-4o-mini, api_key: os.environ/OPENAI_API_KEY}
    router_settings:
      fallbacks: [{gpt-4o-mini: [offline-extractive]}]

``models.example.yaml`` has an entry for each common kind of server.
"""

import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from rag_assets.errors import ConfigurationError
from rag_assets.generation import load_litellm
from rag_assets.generation.extractive import OFFLINE_MODEL, OFFLINE_NAME, Embed, register_offline_answerer
from rag_assets.settings import AnswerSettings

_ENVIRONMENT = "os.environ/"
_TOP_LEVEL = ("model_list", "router_settings")
_FALLBACK_LISTS = ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")


def build_router(settings: AnswerSettings, embed: Embed, *, asker: str = "answers", **overrides: Any) -> Any:
    """A ``litellm.Router`` over the models of ``settings.models`` and the offline answerer.

    Nothing is retried unless ``router_settings.num_retries`` says so: a retry costs seconds, a fallback
    hundredths. Where an entry sets no temperature it is 0, so that evaluations repeat; a model without it is spared.

    Args:
        settings: The list, the model that must be in it, and the time a call may take.
        embed: Unit vectors of texts, for the offline answerer.
        asker: The section of the settings that names the model, for messages.
        overrides: Router settings that hold whatever the file says.

    Raises:
        ConfigurationError: the file can't be read or is wrong; it names the file, the entry and the field.
    """
    litellm = load_litellm()
    register_offline_answerer(embed)
    entries: list[dict[str, Any]] = []
    options: dict[str, Any] = {}
    if settings.models is not None:
        entries, options = _read(settings.models, litellm)
    known = [*dict.fromkeys(entry["model_name"] for entry in entries), OFFLINE_NAME]
    if settings.model not in known:
        where = settings.models or "answers.models is not set, so there is only the offline answerer"
        raise ConfigurationError(
            f"{asker}.model = {settings.model!r} is not among the models ({where}). Known: {', '.join(known)}."
        )
    _check_fallbacks(options, known, settings.models)
    entries.append({"model_name": OFFLINE_NAME, "litellm_params": {"model": OFFLINE_MODEL}})
    try:
        defaults = {"num_retries": 0, "timeout": settings.timeout_seconds}
        return litellm.Router(model_list=entries, **{**defaults, **options, **overrides})
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{settings.models}: LiteLLM refuses router_settings: {error}") from None


def _read(path: Path, litellm: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The checked entries and router settings of a file."""
    content = _load_yaml(path)
    if not isinstance(content, Mapping):
        raise ConfigurationError(f"{path} must be a mapping with the key model_list; it is {_kind(content)}.")
    unread = [str(key) for key in content if key not in _TOP_LEVEL]
    if unread:
        raise ConfigurationError(
            f"{path}: {', '.join(unread)} is not read here; known are {' and '.join(_TOP_LEVEL)}. "
            "Settings of the LiteLLM proxy, such as fallbacks, belong under router_settings."
        )
    entries = content.get("model_list")
    if not isinstance(entries, list) or not entries:
        raise ConfigurationError(f"{path}: model_list must be a list with at least one entry; it is {_kind(entries)}.")
    options = content.get("router_settings") or {}
    if not isinstance(options, Mapping):
        raise ConfigurationError(f"{path}: router_settings must be a mapping; it is {_kind(options)}.")
    allowed = [name for name in inspect.signature(litellm.Router).parameters if name != "model_list"]
    for key in options:
        if key not in allowed:
            raise ConfigurationError(
                f"{path}: router_settings.{key} is no setting of LiteLLM's router; known: {', '.join(sorted(allowed))}."
            )
    return [_entry(path, index, entry, litellm) for index, entry in enumerate(entries)], dict(options)


def _load_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(
            f"answers.models names {path}, which does not exist. Copy models.example.yaml there, or unset it."
        ) from None
    except OSError as error:
        raise ConfigurationError(f"{path} can't be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not UTF-8 text. Save it as UTF-8.") from None
    except yaml.YAMLError as error:
        # The parser's own text quotes the line, which may hold a key.
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "unreadable"
        raise ConfigurationError(f"{path} is not valid YAML{where}: {problem}.") from None


def _entry(path: Path, index: int, entry: Any, litellm: Any) -> dict[str, Any]:
    place = f"{path}: model_list[{index}]"
    if not isinstance(entry, Mapping):
        raise ConfigurationError(f"{place} must be a mapping with model_name and litellm_params; it is {_kind(entry)}.")
    name = entry.get("model_name")
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"{place}.model_name must be a name; it is {_kind(name)}. answers.model refers to it.")
    place = f"{place} ({name})"
    if name == OFFLINE_NAME:
        raise ConfigurationError(f"{place}.model_name is taken by the built-in offline answerer. Choose another name.")
    params = entry.get("litellm_params")
    if not isinstance(params, Mapping):
        raise ConfigurationError(f"{place}.litellm_params must be a mapping; it is {_kind(params)}.")
    if not isinstance(params.get("model"), str):
        raise ConfigurationError(
            f"{place}.litellm_params.model must be a provider/model name such as openai/gpt-4o-mini; "
            f"it is {_kind(params.get('model'))}."
        )
    for key, value in params.items():
        variable = value.removeprefix(_ENVIRONMENT) if isinstance(value, str) else value
        if variable != value and not os.environ.get(variable):
            raise ConfigurationError(
                f"{place}.litellm_params.{key} wants the environment variable {variable}, "
                "which is not set. Set it, or comment the entry out."
            )
    try:
        litellm.get_llm_provider(params["model"], params.get("custom_llm_provider"), params.get("api_base"))
    except Exception:  # LiteLLM raises several types here, and their text is about its own internals
        raise ConfigurationError(
            f"{place}.litellm_params.model = {params['model']!r} names no provider LiteLLM knows. Write it as "
            "provider/model (https://docs.litellm.ai/docs/providers); for your own server, openai/NAME with api_base."
        ) from None
    return {**entry, "litellm_params": {"temperature": 0, "drop_params": True, **params}}


def _check_fallbacks(options: Mapping[str, Any], known: list[str], path: Path | None) -> None:
    """LiteLLM finds a misspelt fallback only when it is needed; here it is found at once."""
    pairs: list[tuple[str, Any, Any]] = [("default_fallbacks", "*", options.get("default_fallbacks") or [])]
    for field in _FALLBACK_LISTS:
        rules = options.get(field) or []
        if not isinstance(rules, list) or not all(isinstance(rule, Mapping) and len(rule) == 1 for rule in rules):
            raise ConfigurationError(f"{path}: router_settings.{field} must be a list like [{{model: [other, …]}}].")
        pairs += [(field, model, targets) for rule in rules for model, targets in rule.items()]
    for field, model, targets in pairs:
        if not isinstance(targets, list):
            raise ConfigurationError(f"{path}: router_settings.{field} of {model!r} must be a list of model names.")
        for name in [model, *targets]:
            if name not in known and name != "*":
                raise ConfigurationError(
                    f"{path}: router_settings.{field} names {name!r}, which is no model. Known: {', '.join(known)}."
                )


def _kind(value: Any) -> str:
    """What a value is, without showing it: it may be a key."""
    kinds = {type(None): "missing or empty", str: "a text", list: "a list", dict: "a mapping", bool: "true or false"}
    return kinds.get(type(value), f"a {type(value).__name__}")
