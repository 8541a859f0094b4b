"""What `rag-assets bench` prints for people, and which options it refuses."""

import pytest

from rag_assets.cli.bench import bench_settings, print_benchmark
from rag_assets.errors import ConfigurationError
from rag_assets.settings import BenchmarkSettings
from rag_assets_tests.unit.evaluation.fixtures import realistic_benchmark


def test_people_read_tables_with_what_was_found_and_what_failed(capsys: pytest.CaptureFixture[str]) -> None:
    classes = {"classes": {"search": [0.001, 0.002, 0.003, 0.03]}}
    print_benchmark("handbook#7", realistic_benchmark(), BenchmarkSettings.model_validate(classes))
    lines = capsys.readouterr().out.splitlines()
    tables = [line for line in lines if ":" in line]
    assert any(line.startswith("handbook#7: one query at a time, 100 golden questions") for line in tables)
    (warm,) = [line.split() for line in lines if "search" in line and "warm" in line]
    assert warm == ["search", "warm", "12.0", "24.0", "36.0", "80", "poor"]
    (four,) = [line.split() for line in lines if line.split()[:2] == ["4", "120.0"]]
    assert four[-5:] == ["240", "2", "0.991", "0.950", "0.870"]
    (opened,) = [line.split() for line in lines if line.split()[:1] == ["96"]]
    assert opened[:6] == ["96", "95.5", "75.0", "40.0", "80.0", "120.0"]
    assert opened[-1] == "3"
    text = "\n".join(lines)
    for part in (
        "10 database connections",
        "mean 0.987",
        "4 of 5 answered, 55.5 tokens/s",
        "failed: The model replied too late.",
    ):
        assert part in text, part


def test_options_replace_settings_and_wrong_ones_are_named() -> None:
    configured = BenchmarkSettings(seconds=7)
    chosen = bench_settings(configured, {"concurrencies": ["1", "8"], "rates": "auto", "generations": 0})
    assert (chosen.concurrencies, chosen.rates, chosen.seconds, chosen.generations) == ((1, 8), "auto", 7, 0)
    assert bench_settings(configured, {"rates": ["2.5"]}).rates == (2.5,)
    for asked, option in (
        ({"concurrencies": ["0"]}, "--concurrency: '0'"),
        ({"rates": ["often"]}, "--rate: 'often'"),
        ({"seconds": 0.0}, "--seconds: 0.0"),
    ):
        with pytest.raises(ConfigurationError, match=option):
            bench_settings(configured, asked)
