"""The asset ``capacity`` in a run: what its page shows."""

import dagster as dg

from rag_assets.defs.capacity_asset import CAPACITY_ASSET
from rag_assets_tests.defs.conftest import OpenDagster, Quiet


def test_its_page_shows_the_limits_and_the_growth_they_are_projected_with(open_dagster: OpenDagster) -> None:
    dagster = open_dagster(capacity={"growth_chunks_per_month": 50_000, "vectors_per_16_gb": (500_000, 1_000_000)})
    result = dagster.definitions.resolve_implicit_job_def_def_for_assets(
        [dg.AssetKey(CAPACITY_ASSET)]
    ).execute_in_process(instance=dagster.instance, asset_selection=[dg.AssetKey(CAPACITY_ASSET)], run_config=Quiet)
    (event,) = result.asset_materializations_for_node(CAPACITY_ASSET)
    shown = {name: value.value for name, value in event.metadata.items()}
    # The database of the tests is on a server whose memory is not seen: 16 GB are assumed, and nothing is stored yet.
    assert (shown["first_limit"], shown["months"], shown["chunks"]) == ("vectors", 20.0, 0)
    assert shown["growth"] == "your own (50,000 chunks a month, given)"
    assert "| your own (50,000 chunks a month, given) | vectors | 10.0 / 20.0 | 1,000,000 |" in str(shown["summary"])
