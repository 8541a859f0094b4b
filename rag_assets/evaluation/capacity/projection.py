"""The projection itself: measured figures, given thresholds and a growth in; months out. Pure.

Every use is a straight line of chunks (or of queries a day). That is what `make bench-scale` finds for disk, and a little
pessimistic for time that has a constant part; it holds near what was measured and is a guess far from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rag_assets.settings.capacity import CapacitySettings

GB = 10**9
HORIZON_MONTHS = 120.0
"""Further away is "not in ten years"."""
BUSY_HOUR = 0.2
"""Share of a day's queries in its busiest hour."""
SCENARIOS = {
    "organic": (200_000 / 12, 150 / 12),
    "rapid": (900_000 / 12, 1_950 / 12),
    "enterprise": (4_900_000 / 12, 19_950 / 12),
}
"""(chunks, queries a day) more each month: from 100,000 chunks and 50 queries a day to 300,000 and 200, to a million and 2,000, to
five million and 20,000 within a year."""
ADVICE = {
    "vectors": "more memory; else the ladder: replicas and caching, then partitions by category or date (a collection each), then a "
    "distributed vector store",
    "disk": "a larger disk; before that `rag-assets gc`, and fewer retained generations (sync.keep_retired)",
    "memory": "more memory, or PostgreSQL on a machine of its own (RAG_POSTGRES_URL)",
    "nightly run": "more cores, a longer window (capacity.nightly_window_hours), or collections on different nights",
    "re-embedding": "a GPU or an inference server before the model is changed, or a weekend for that night",
    "pool": "replicas and caching: another process has a pool of its own",
}
Basis = Literal["measured", "estimated", "given"]


@dataclass(frozen=True, slots=True)
class Installation:
    """What was measured here. None: it could not be."""

    chunks: int
    """Of all live indexes."""
    documents: int
    database_bytes: int
    """The whole database: ledger, vectors, live and retained generations, Dagster's history."""
    table_bytes: int
    """Of that the project's own tables: what grows with the documents."""
    graph_bytes: int
    """The HNSW graphs of the live indexes."""
    disk_total: int | None = None
    disk_used: int | None = None
    memory_total: int | None = None
    memory_used: int | None = None
    tokens_per_chunk: float | None = None
    tokens_per_second: float | None = None
    nightly_seconds: float | None = None
    """The longest of the last nightly runs that ended well."""
    retrieval_p95_seconds: float | None = None
    pool_size: int = 10
    growth_per_month: float | None = None
    """Chunks, over the time the retained generations reach back."""


@dataclass(frozen=True, slots=True)
class Growth:
    """What is added each month."""

    name: str
    chunks: float
    queries: float
    """Queries a day."""
    basis: Basis


@dataclass(frozen=True, slots=True)
class Resource:
    """Something that runs out: how full it is, how fast it fills, where it is full."""

    name: str
    unit: str
    now: float
    per_chunk: float
    warning: float
    limit: float
    source: str
    """What is measured, and what a given threshold."""
    per_query: float = 0.0
    """For each further query a day."""

    def months(self, threshold: float, growth: Growth) -> float | None:
        """Until the threshold is reached: 0 where it is already; None: not within the horizon."""
        if self.now >= threshold:
            return 0.0
        rate = self.per_chunk * growth.chunks + self.per_query * growth.queries
        months = (threshold - self.now) / rate if rate > 0 else float("inf")
        return months if months <= HORIZON_MONTHS else None


@dataclass(frozen=True, slots=True)
class Reached:
    """A limit and when."""

    resource: str
    warning_months: float | None
    limit_months: float | None


@dataclass(frozen=True, slots=True)
class Projection:
    """One growth against every resource, the first to run out first."""

    growth: Growth
    reached: tuple[Reached, ...]

    @property
    def first(self) -> Reached | None:
        """The limit that is reached first; None: none within the horizon."""
        return next((found for found in self.reached if found.limit_months is not None), None)


@dataclass(frozen=True, slots=True)
class Capacity:
    """Everything the report shows."""

    installation: Installation
    resources: tuple[Resource, ...]
    unmeasured: tuple[str, ...]
    """What could not be projected, and why."""
    projections: tuple[Projection, ...]


def project(installation: Installation, settings: CapacitySettings) -> Capacity:
    """When each resource runs out under each growth."""
    resources, unmeasured = resources_of(installation, settings)
    projections = tuple(Projection(growth, _reached(resources, growth)) for growth in growths(installation, settings))
    return Capacity(installation, tuple(resources), tuple(unmeasured), projections)


def growths(installation: Installation, settings: CapacitySettings) -> list[Growth]:
    """The team's own where it is known, then the three scenarios."""
    found: list[Growth] = []
    if settings.growth_chunks_per_month is not None:
        found.append(Growth("your own", settings.growth_chunks_per_month, 0.0, "given"))
    elif installation.growth_per_month is not None and installation.growth_per_month > 0:
        found.append(Growth("as so far", installation.growth_per_month, 0.0, "estimated"))
    return found + [Growth(name, chunks, queries, "given") for name, (chunks, queries) in SCENARIOS.items()]


def resources_of(found: Installation, settings: CapacitySettings) -> tuple[list[Resource], list[str]]:
    """(what can be projected, what can't and why)."""
    resources, unmeasured = [_vectors(found, settings)], []
    chunks = max(1, found.chunks)
    if found.disk_total is not None and found.disk_used is not None:
        resources.append(
            _share("disk", found.disk_used, found.table_bytes / chunks, found.disk_total, settings.disk_shares,
                   "measured: use of the disk, bytes of the tables for each chunk, retained generations included")
        )  # fmt: skip
    else:
        unmeasured.append("disk: the database is on a server whose disk is not seen from here")
    if found.memory_total is not None and found.memory_used is not None:
        resources.append(
            _share("memory", found.memory_used, found.graph_bytes / chunks, found.memory_total, settings.memory_shares,
                   "measured: use of the memory, bytes of the HNSW graph for each chunk, which must stay in it to be quick")
        )  # fmt: skip
    else:
        unmeasured.append("memory: that of the machine of the database is not seen from here")
    window = settings.nightly_window_hours
    if found.nightly_seconds is not None:
        hours = found.nightly_seconds / 3600
        resources.append(
            Resource("nightly run", "h", hours, hours / chunks, window * 0.8, window, "measured: the longest of the last nights")
        )  # fmt: skip
    else:
        unmeasured.append("nightly run: none has ended well yet")
    if found.tokens_per_chunk and found.tokens_per_second:
        each = found.tokens_per_chunk / found.tokens_per_second / 3600
        resources.append(
            Resource("re-embedding", "h", each * found.chunks, each, window * 0.8, window,
                     "measured: tokens a chunk, tokens a second; the night after a change of the model embeds everything")
        )  # fmt: skip
    else:
        unmeasured.append("re-embedding: no embedding was timed yet")
    if found.retrieval_p95_seconds is not None:
        each = BUSY_HOUR / 3600 * found.retrieval_p95_seconds
        warning, limit = (share * found.pool_size for share in settings.pool_shares)
        resources.append(
            Resource("pool", "busy connections", each * settings.queries_per_day, 0.0, warning, limit,
                     "measured: p95 of retrieval; given: queries a day, a fifth of them in the busiest hour", each)
        )  # fmt: skip
    else:
        unmeasured.append("pool: the live index was not evaluated yet")
    return resources, unmeasured


def _vectors(found: Installation, settings: CapacitySettings) -> Resource:
    memory = found.memory_total if found.memory_total is not None else 16 * 1024**3
    warning, limit = (count * memory / (16 * 1024**3) for count in settings.vectors_per_16_gb)
    scaled = "scaled to this machine's memory" if found.memory_total is not None else "of a machine of 16 GB"
    return Resource("vectors", "chunks", found.chunks, 1.0, warning, limit, f"measured: chunks; given: {scaled}")


def _share(name: str, used: int, per_chunk: float, total: int, shares: tuple[float, float], source: str) -> Resource:
    return Resource(name, "GB", used / GB, per_chunk / GB, shares[0] * total / GB, shares[1] * total / GB, source)


def _reached(resources: Sequence[Resource], growth: Growth) -> tuple[Reached, ...]:
    found = [
        Reached(r.name, r.months(r.warning, growth), r.months(r.limit, growth)) for r in resources
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda item: float("inf") if item.limit_months is None else item.limit_months))
