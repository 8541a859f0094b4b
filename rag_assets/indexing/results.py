"""What a stage reports: the same numbers reach the asset page, the progress bar and the JSON of ``sync``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class StageResult:
    """One stage of one shard (or, with ``shard`` None, of a collection)."""

    stage: str
    collection: str
    shard: int | None
    data_version: str
    """Hash of the rows the stage answers for."""
    code_version: str
    """Fingerprint of the configuration they were made with."""
    counts: Mapping[str, int]
    seconds: float
    samples: tuple[Mapping[str, Any], ...] = ()
    """A few rows to look at."""
    quarantined: tuple[tuple[str, str], ...] = ()
    """(document, reason) of every file of the shard that is not indexed."""
    lengths: tuple[int, ...] = ()
    """Tokens of each chunk of the shard, for the histogram."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Further figures for the asset page."""
