"""The exponents and verdicts of ``make bench-scale``, on growth that is known."""

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FILE = Path(__file__).resolve().parents[2] / "evals/benchmarks/scale_report.py"
SIZES = (1_000, 3_000, 10_000, 30_000, 100_000)


@pytest.fixture(scope="module")
def report() -> ModuleType:
    spec = importlib.util.spec_from_file_location("scale_report", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["scale_report"] = module
    spec.loader.exec_module(module)
    return module


def row(chunks: int, *, power: float = 1.0, memory: float = 900.0) -> dict[str, Any]:
    seconds = 0.01 * chunks**power
    stages = dict.fromkeys(("parse", "chunk", "embed", "load", "index"), seconds / 5)
    times = {"p50": math.log(chunks), "p95": 2 * math.log(chunks)}
    return {
        "chunks": chunks, "documents": chunks // 5, "no_op": seconds / 100, "one_document": 2.0, "disk_mb": chunks / 100,
        "build": {"seconds": seconds, "stages": stages, "client_mb": memory, "server_mb": 100.0},
        "search": {"dense": times, "hybrid": times},
    }  # fmt: skip


def test_an_exact_power_is_found_with_no_doubt_and_noise_widens_the_interval(report: ModuleType) -> None:
    exact = report.fit(SIZES, [3 * size**1.07 for size in SIZES])
    assert exact.value == pytest.approx(1.07)
    assert exact.half_width == pytest.approx(0, abs=1e-9)
    noisy = report.fit(SIZES, [size * factor for size, factor in zip(SIZES, (1, 1.2, 0.9, 1.1, 1), strict=True)])
    assert abs(noisy.value - 1) < noisy.half_width < 0.3
    assert math.isinf(report.fit(SIZES[:2], SIZES[:2]).half_width)


@pytest.mark.parametrize("values", [[1.0], [0.0, 1.0]])
def test_growth_needs_two_sizes_and_positive_values(report: ModuleType, values: list[float]) -> None:
    with pytest.raises(ValueError, match="two sizes and positive"):
        report.fit(SIZES[: len(values)], values)


def test_the_targets_are_judged(report: ModuleType) -> None:
    good = report.verdicts([row(size) for size in SIZES])
    assert good[0] == "build time: n^1.00 ± 0.00; target n^1.1: met"
    assert good[2].endswith("log-like within noise")
    assert good[4].endswith("1,611 MB at 100,000: met")
    bad = report.verdicts([row(size, power=1.4, memory=1700.0) for size in SIZES])
    assert [line.endswith("missed") for line in bad] == [True, True, False, False, True]
    assert "not measured: the largest size here is 10,000" in report.verdicts([row(size) for size in SIZES[:3]])[4]


def test_the_table_and_the_plot_hold_every_size(report: ModuleType, tmp_path: Path) -> None:
    rows = [row(size) for size in SIZES]
    stored = {"vectors": 10**6, "copy_seconds": 60.0, "index_seconds": 400.0, "p50": 3.0, "p95": 9.0, "recall": 0.97, "clusters": 0, "beam": 100, "exact_seconds": 3.0,
              "disk_mb": 2000.0, "server_mb": 800.0}  # fmt: skip
    text = report.markdown({"cores": 2, "load": 0.0, "rows": rows, "vectors": [stored]})
    assert all(f"| {size:,} ({size // 5:,}) |" in text for size in SIZES)
    assert "1,000,000 vectors, stored and searched only" in text
    report.plot(rows, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")
