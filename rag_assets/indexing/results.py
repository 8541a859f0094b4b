"""What a stage reports: the same numbers reach the asset page, the progress bar and the JSON of ``sync``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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


def combined(results: Sequence[StageResult], *, summed: Sequence[str] = ()) -> StageResult:
    """The result for the index the configuration asks for, which is the first; ``summed`` counts are of all of them."""
    first = results[0]
    counts = {
        name: sum(r.counts[name] for r in results) if name in summed else first.counts[name] for name in first.counts
    }
    return replace(first, counts=counts, seconds=sum(result.seconds for result in results))
