"""When limits are reached: plain numbers in, months out."""

from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from rag_assets.evaluation.capacity import Installation, project, tables
from rag_assets.evaluation.capacity.measuring import read_memory
from rag_assets.evaluation.capacity.projection import Growth, Resource
from rag_assets.settings import CapacitySettings

GIB = 1024**3
TEAM = Installation(
    chunks=100_000,
    documents=20_000,
    database_bytes=2 * 10**9,
    table_bytes=10**9,
    graph_bytes=2 * 10**8,
    disk_total=100 * 10**9,
    disk_used=50 * 10**9,
    memory_total=16 * GIB,
    memory_used=8 * GIB,
    tokens_per_chunk=180.0,
    tokens_per_second=3600.0,
    nightly_seconds=1800.0,
    retrieval_p95_seconds=0.05,
)


def months(
    found: Installation, settings: CapacitySettings, resource: str, growth: int = 0
) -> tuple[float | None, float | None]:
    (item,) = [item for item in project(found, settings).projections[growth].reached if item.resource == resource]
    return item.warning_months, item.limit_months


def test_each_limit_is_as_far_away_as_the_teams_own_growth_makes_it() -> None:
    own = CapacitySettings(growth_chunks_per_month=10_000)
    assert months(TEAM, own, "vectors") == (40.0, 90.0)
    # 10 kB a chunk: 0.1 GB a month, 30 and 40 GB left. Further than ten years is not projected.
    assert months(TEAM, own, "disk") == (None, None)
    assert months(TEAM, CapacitySettings(growth_chunks_per_month=1_000_000), "disk") == pytest.approx((3.0, 4.0))
    # Half an hour a night, and a window of four.
    assert months(TEAM, own, "nightly run") == pytest.approx((54.0, 70.0))
    # 180 tokens a chunk at 3,600 a second are 20 chunks a second: 1.39 h now.
    assert months(TEAM, own, "re-embedding") == pytest.approx(((3.2 - 1.38889) * 7.2, (4 - 1.38889) * 7.2), rel=1e-3)
    assert months(TEAM, own, "pool") == (None, None)


def test_what_comes_first_is_named_with_what_to_do_then() -> None:
    capacity = project(TEAM, CapacitySettings(growth_chunks_per_month=10_000))
    first = capacity.projections[0].first
    assert first is not None
    assert first.resource == "re-embedding"
    text = tables.markdown(capacity)
    assert "| your own (10,000 chunks a month, given) | re-embedding |" in text
    assert "a GPU or an inference server" in text
    assert tables.to_json(capacity)["projections"][0]["first_limit"] == "re-embedding"
    assert {line.count("|") for line in text.split("\n\n")[2].splitlines()} == {6}


def test_the_scenarios_are_always_there_and_an_estimate_yields_to_a_stated_growth() -> None:
    growing = replace(TEAM, growth_per_month=5000.0)
    names = [item.growth.name for item in project(growing, CapacitySettings()).projections]
    assert names == ["as so far", "organic", "rapid", "enterprise"]
    stated = project(growing, CapacitySettings(growth_chunks_per_month=1)).projections[0].growth
    assert (stated.name, stated.basis) == ("your own", "given")
    shrinking = replace(TEAM, growth_per_month=-5.0)
    assert project(shrinking, CapacitySettings()).projections[0].growth.name == "organic"
    # 100,000 more to 300,000 in a year: half a million is two years away.
    assert months(TEAM, CapacitySettings(), "vectors") == pytest.approx((24.0, 54.0))


def test_more_queries_fill_the_pool_only() -> None:
    slow = replace(TEAM, retrieval_p95_seconds=20.0)
    enterprise = months(slow, CapacitySettings(), "pool", growth=2)
    each = 0.2 / 3600 * 20
    assert enterprise == pytest.approx(((8 / each - 50) / (19_950 / 12), (9 / each - 50) / (19_950 / 12)))


def test_what_is_full_already_is_reached() -> None:
    full = replace(TEAM, disk_used=85 * 10**9)
    assert months(full, CapacitySettings(growth_chunks_per_month=1_000_000), "disk") == (0.0, pytest.approx(0.5))
    assert "reached / 0.5" in tables.markdown(project(full, CapacitySettings(growth_chunks_per_month=1_000_000)))


def test_a_machine_of_half_the_memory_carries_half_the_vectors() -> None:
    half = replace(TEAM, memory_total=8 * GIB, memory_used=GIB)
    (vectors,) = [item for item in project(half, CapacitySettings()).resources if item.name == "vectors"]
    assert (vectors.warning, vectors.limit) == (250_000, 500_000)


def test_what_was_not_measured_is_said_and_nothing_is_made_up_for_it() -> None:
    capacity = project(
        Installation(chunks=0, documents=0, database_bytes=0, table_bytes=0, graph_bytes=0), CapacitySettings()
    )
    assert [resource.name for resource in capacity.resources] == ["vectors"]
    assert [reason.split(":")[0] for reason in capacity.unmeasured] == [
        "disk", "memory", "nightly run", "re-embedding", "pool"
    ]  # fmt: skip
    assert "Not projected: disk:" in tables.markdown(capacity)


def test_nothing_that_grows_is_never_full() -> None:
    still = Resource("disk", "GB", 1.0, 0.0, 5.0, 6.0, "")
    assert still.months(5.0, Growth("none", 10.0, 0.0, "given")) is None


def test_memory_is_what_the_kernel_says(tmp_path: Path) -> None:
    file = tmp_path / "meminfo"
    file.write_text("MemTotal:       1000 kB\nMemFree:   5 kB\nMemAvailable:    400 kB\n", encoding="ascii")
    assert read_memory(file) == (1000 * 1024, 600 * 1024)
    assert read_memory(tmp_path / "none") is None


def test_a_warning_above_its_limit_is_refused() -> None:
    with pytest.raises(ValidationError, match="must not be above the limit"):
        CapacitySettings(disk_shares=(0.9, 0.8))
