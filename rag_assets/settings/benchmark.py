"""The section ``[benchmark]``: how speed is measured, and what a time is called."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, field_validator

from rag_assets.settings.sections import LATENCY_STAGES, Section

LatencyLimits = tuple[float, float, float, float]
"""Seconds: under the first is excellent, then up to each next one good, acceptable, poor; beyond the last, critical."""
LATENCY_CLASSES: Mapping[str, LatencyLimits] = {
    "embedding": (0.1, 0.2, 0.5, 1.0),
    "retrieval": (0.05, 0.1, 0.3, 1.0),
    "generation": (3.0, 5.0, 10.0, 15.0),
    "total": (3.0, 5.0, 10.0, 15.0),
}


class BenchmarkSettings(Section):
    """How speed is measured: every publication of an index, and ``rag-assets bench``, run this benchmark."""

    enabled: bool = True
    """False: publishing an index does not measure it under load; ``rag-assets bench`` still does."""
    concurrencies: tuple[Annotated[int, Field(ge=1, le=64)], ...] = (1, 2, 4)
    """Closed loop: so many clients ask at once, each waiting for its answer. Empty: none. All share the process's ten database
    connections."""
    rates: tuple[Annotated[float, Field(gt=0, le=100_000)], ...] | Literal["auto"] = "auto"
    """Open loop: so many questions a second come, answered or not. ``auto``: 50 % and 80 % of the highest throughput of the closed
    loop. Empty: none."""
    seconds: float = Field(2.0, gt=0, le=600)
    """Measured at each level, and at most spent on each other phase (but for generation)."""
    warm_up_seconds: float = Field(0.5, ge=0, le=60)
    """Before each level; not measured."""
    generations: int = Field(5, ge=0, le=1000)
    """Questions that are answered by ``answers.model``, streamed. With a paid model this is what costs money."""
    classes: dict[str, LatencyLimits] = Field(default_factory=lambda: dict(LATENCY_CLASSES))
    """Latency classes by stage: four limits in seconds. Those named replace the default ones (of embedding, retrieval, generation and
    total); stages without any have no class."""

    @field_validator("classes")
    @classmethod
    def _rising(cls, value: dict[str, LatencyLimits]) -> dict[str, LatencyLimits]:
        for stage, limits in value.items():
            if stage not in LATENCY_STAGES:
                raise ValueError(f"{stage!r} is no stage; known: {', '.join(LATENCY_STAGES)}")
            if limits[0] <= 0 or list(limits) != sorted(limits):
                raise ValueError(f"the limits of {stage} must be positive and rise; they are {list(limits)}")
        return {**LATENCY_CLASSES, **value}
