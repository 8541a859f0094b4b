"""The tables of ``make bench-peers``: statistics and verdicts, on figures made up for the test."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

FILE = Path(__file__).resolve().parents[2] / "evals/benchmarks/peers/report.py"


@pytest.fixture(scope="module")
def report() -> ModuleType:
    spec = importlib.util.spec_from_file_location("peer_report", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["peer_report"] = module
    spec.loader.exec_module(module)
    return module


def system(seconds: float, *, p95: float = 2.0, disk: float = 10.0, faults: str = "0") -> dict[str, Any]:
    step = {"seconds": seconds, "work": seconds / 2, "faults": faults}
    return {
        "kind": "framework",
        "how": "by hand",
        "steps": {name: dict(step) for name in ("cold build", "first no-op", "no-op", "1 % edits", "10 % deletes")},
        "rows": 1234,
        "points": [
            {"ef": 10, "recall": 0.96, "p50": 1.0, "p95": p95},
            {"ef": 40, "recall": 0.995, "p50": 1.5, "p95": p95 * 2},
        ],
        "whole": {"p50": 5.0, "p95": 9.0},
        "gone_answers": 0,
        "client_mb": 500.0,
        "server_mb": 90.0,
        "disk_mb": disk,
        "index_seconds": 0.5,
    }


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.95, 1.0])
def test_percentiles_are_those_of_numpy(report: ModuleType, share: float) -> None:
    values = [3.0, 1.0, 4.0, 1.5, 9.0, 2.6]
    assert report.percentile(values, share) == pytest.approx(np.percentile(values, share * 100))


def test_the_narrowest_search_that_reaches_the_recall_is_taken(report: ModuleType) -> None:
    points = [
        {"ef": ef, "recall": recall, "p95": p95} for ef, recall, p95 in ((10, 0.9, 1), (40, 0.99, 2), (20, 0.97, 3))
    ]
    assert report.at_recall(points, 0.95)["ef"] == 20
    assert report.at_recall(points, 0.999) is None


def test_a_goal_is_judged_against_the_fastest_peer_and_a_peer_that_wins_is_named(report: ModuleType) -> None:
    lines = report.verdicts({"rag-assets": system(1.0), "slow": system(50.0, p95=4.0), "quick": system(4.0, disk=7.0)})
    assert lines[0] == "cold build: 4.0 × as fast as quick, the fastest; goal 3 ×: met"
    for line, step in zip(lines[1:3], ("first no-op", "no-op"), strict=True):
        assert line == f"{step}: 4.0 × as fast as quick, the fastest; goal 10 ×: missed"
    assert "search p95 at recall@10 ≥ 0.95: 1.00 × as fast as quick, the fastest: met" in lines
    assert lines[-1].startswith("disk: ahead of rag-assets (10): quick (7) – likely because rag-assets also keeps")
    assert not any("slow (" in line for line in lines)


def test_a_peer_that_failed_is_a_row_with_its_reason_and_takes_no_part_in_the_verdicts(report: ModuleType) -> None:
    broken = {"kind": "framework", "how": "not at all", "error": "can't be installed: no wheel"}
    systems = {"rag-assets": system(1.0), "broken": broken, "wrong": system(5.0, faults="3 rows outdated")}
    text = report.markdown({"documents": 10, "questions": 5, "cores": 2, "load": 0.1, "systems": systems})
    assert "| broken | can't be installed: no wheel |" in text
    assert "cold build: 3 rows outdated" in text
    assert "| wrong | 5.00 (2.50) 5.0 × |" in text
    assert not any("broken" in line for line in report.verdicts(systems))
    widths = {line.count("|") for line in text.split("### Searching")[0].splitlines() if line.startswith("|")}
    assert len(widths) == 1
