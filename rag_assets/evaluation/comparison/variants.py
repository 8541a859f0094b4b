"""What ``--compare`` asks for: ``chunking=recursive,recursive:128,sliding:256:overlap_tokens=64`` as settings."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from rag_assets.errors import ConfigurationError
from rag_assets.settings import ChunkingSettings

SYNTAX = "chunking=STRATEGY[:MAX_TOKENS][:SETTING=VALUE …],…"


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to cut a collection."""

    name: str
    """As it was asked for."""
    settings: ChunkingSettings
    configured: bool = False
    """Whether it is what the collection is cut by."""


def parse_variants(text: str, configured: ChunkingSettings) -> list[Variant]:
    """The variants asked for, without repeats, the configured one first in any case.

    What a variant does not say is as configured.

    Raises:
        ConfigurationError: something else than chunking is to be compared, or a variant is not one.
    """
    subject, equals, listed = text.partition("=")
    if subject.strip() != "chunking" or not equals or not listed.strip(" ,"):
        raise ConfigurationError(
            f"--compare {text!r} can't be understood. It looks like {SYNTAX}, "
            "for example chunking=recursive,recursive:128,sliding:256:overlap_tokens=64"
        )
    variants = [Variant(f"{configured.strategy}:{configured.max_tokens}", configured, configured=True)]
    for name in filter(None, (part.strip() for part in listed.split(","))):
        settings = _settings(name, configured)
        if all(settings != variant.settings for variant in variants):
            variants.append(Variant(name, settings))
    return variants


def _settings(name: str, configured: ChunkingSettings) -> ChunkingSettings:
    strategy, *rest = name.split(":")
    given: dict[str, str] = {"strategy": strategy}
    for place, part in enumerate(rest):
        key, equals, value = part.partition("=")
        if not equals and place:
            raise ConfigurationError(f"--compare: {part!r} in {name!r} must look like SETTING=VALUE ({SYNTAX}).")
        given[key if equals else "max_tokens"] = value if equals else key
    try:
        return ChunkingSettings.model_validate({**configured.model_dump(), **given})
    except ValidationError as error:
        raise ConfigurationError(f"--compare: {name!r} is no way to cut documents: {_reasons(error)}.") from None


def _reasons(error: ValidationError) -> str:
    problems: Sequence[str] = [
        f"chunking.{'.'.join(map(str, problem['loc']))} = {problem['input']!r}: {problem['msg']}"
        for problem in error.errors()
    ]
    return "; ".join(problems)
