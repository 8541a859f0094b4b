"""The section ``[capacity]``: how the team grows, and what its machine may be filled to."""

from typing import Annotated

from pydantic import Field, field_validator

from rag_assets.settings.sections import Section

_Share = Annotated[float, Field(gt=0, le=1)]


class CapacitySettings(Section):
    """What ``rag-assets capacity`` projects with. Thresholds are pairs: a warning, and the limit itself."""

    growth_chunks_per_month: float | None = Field(None, gt=0)
    """The team's own growth. None: estimated from the retained generations where they reach back a week; three scenarios
    (``organic``, ``rapid``, ``enterprise``) are projected in any case."""
    queries_per_day: float = Field(50, gt=0)
    """Asked of this installation today."""
    nightly_window_hours: float = Field(4.0, gt=0, le=24)
    """The nightly run has to be done by then."""
    vectors_per_16_gb: tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]] = (500_000, 1_000_000)
    """Vectors that a machine of 16 GB carries; scaled by the memory of this one."""
    disk_shares: tuple[_Share, _Share] = (0.8, 0.9)
    memory_shares: tuple[_Share, _Share] = (0.8, 0.9)
    pool_shares: tuple[_Share, _Share] = (0.8, 0.9)
    """Of the database connections of one process, busy at once in the busiest hour."""

    @field_validator("vectors_per_16_gb", "disk_shares", "memory_shares", "pool_shares")
    @classmethod
    def _rising(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError(f"the warning ({value[0]:g}) must not be above the limit ({value[1]:g})")
        return value
