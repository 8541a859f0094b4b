"""The code location: what Dagster is told there is."""

import itertools
from pathlib import Path

import dagster as dg
import pytest

from rag_assets.definitions import build_definitions
from rag_assets.defs.capacity_asset import CAPACITY_ASSET
from rag_assets.defs.index_assets import INDEX_ASSETS, QUALITY, STRUCTURAL
from rag_assets.defs.partitions import shard_key, shard_partition_key
from rag_assets.defs.shard_assets import SHARD_ASSETS
from rag_assets.defs.tuning_asset import TUNING_ASSET
from rag_assets.errors import ConfigurationError
from rag_assets.settings import Settings

TWO = Settings(collections={"handbook": {"source": "/h"}, "tickets": {"source": "/t"}}, sync={"shards": 3})


@pytest.fixture(scope="module")
def graph() -> dg.AssetSelection:
    return build_definitions(TWO).resolve_asset_graph()


def key(name: str) -> dg.AssetKey:
    return dg.AssetKey([name])


def test_the_definitions_load_and_are_valid() -> None:
    dg.Definitions.validate_loadable(build_definitions(TWO))


def test_a_project_without_documents_loads_too() -> None:
    dg.Definitions.validate_loadable(build_definitions(Settings()))


def test_a_wrong_setting_keeps_anything_from_loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rag_assets.toml").write_text("[sync]\nshards = 0\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=r"sync\.shards = 0"):
        build_definitions()


def test_the_assets_are_those_of_the_design(graph: dg.AssetSelection) -> None:
    names = {item.to_user_string() for item in graph.get_all_asset_keys()}
    assert names == {"document_source", *SHARD_ASSETS, *INDEX_ASSETS, TUNING_ASSET, CAPACITY_ASSET}
    assert {item.to_user_string() for item in graph.executable_asset_keys} == names - {"document_source"}


def test_each_asset_is_in_its_group_and_described(graph: dg.AssetSelection) -> None:
    for name in ("document_source", *SHARD_ASSETS):
        assert graph.get(key(name)).group_name == "documents"
    for name in INDEX_ASSETS:
        assert graph.get(key(name)).group_name == "index"
    for node in graph.asset_nodes:
        assert node.description, node.key
        assert node.code_version or node.is_external, node.key


def test_document_level_assets_are_partitioned_by_collection_and_shard(graph: dg.AssetSelection) -> None:
    expected = {f"{collection}|{shard:02d}" for collection in ("handbook", "tickets") for shard in range(3)}
    for name in SHARD_ASSETS:
        assert set(graph.get(key(name)).partitions_def.get_partition_keys()) == expected


def test_index_level_assets_are_partitioned_by_collection(graph: dg.AssetSelection) -> None:
    for name in INDEX_ASSETS:
        assert graph.get(key(name)).partitions_def.get_partition_keys() == ["handbook", "tickets"]


def test_the_assets_depend_on_each_other_in_the_order_of_the_work(graph: dg.AssetSelection) -> None:
    order = (
        "document_source",
        *SHARD_ASSETS,
        "hnsw_index",
        "retrieval_evaluation",
        "answer_evaluation",
        "latency_benchmark",
    )
    for before, after in itertools.pairwise(order):
        assert key(before) in graph.get(key(after)).parent_keys
    assert graph.get(key("live_index")).parent_keys == {
        key("hnsw_index"), key("retrieval_evaluation"), key("answer_evaluation"), key("latency_benchmark")
    }  # fmt: skip
    assert graph.get(key("evaluation_report")).parent_keys == {key("live_index")}
    assert graph.get(key(TUNING_ASSET)).parent_keys == {key("live_index")}


def test_tuning_is_a_partition_per_collection_and_no_part_of_publishing(graph: dg.AssetSelection) -> None:
    assert graph.get(key(TUNING_ASSET)).partitions_def.get_partition_keys() == ["handbook", "tickets"]
    for job in build_definitions(TWO).resolve_all_job_defs():
        if not job.name.startswith("__ASSET_JOB"):
            assert TUNING_ASSET not in {node.name for node in job.all_node_defs}, job.name


def test_an_index_depends_on_every_shard_of_its_own_collection_only(graph: dg.AssetSelection) -> None:
    mapping = graph.get_partition_mapping(key("hnsw_index"), key("index_entries"))
    shards = graph.get(key("index_entries")).partitions_def
    collections = graph.get(key("hnsw_index")).partitions_def
    found = mapping.get_upstream_mapped_partitions_result_for_partitions(
        collections.subset_with_partition_keys(["tickets"]), collections, shards
    ).partitions_subset.get_partition_keys()
    assert set(found) == {f"tickets|{shard:02d}" for shard in range(3)}


def test_the_checks_before_promotion_are_blocking_and_partitioned(graph: dg.AssetSelection) -> None:
    specs = {(spec.asset_key.to_user_string(), spec.name): spec for node in graph.assets_defs_for_keys(
        [key("hnsw_index"), key("retrieval_evaluation")]) for spec in node.check_specs}  # fmt: skip
    assert specs.keys() == {
        *(("hnsw_index", name) for name in STRUCTURAL),
        *(("retrieval_evaluation", name) for name in QUALITY),
    }
    for spec in specs.values():
        assert spec.blocking
        assert spec.description
        assert spec.partitions_def is not None


def test_both_jobs_hold_their_assets() -> None:
    definitions = build_definitions(TWO)
    for job, names in (("update_shard", SHARD_ASSETS), ("publish_index", INDEX_ASSETS)):
        selected = definitions.resolve_job_def(job).asset_layer.executable_asset_keys
        assert {item.to_user_string() for item in selected} == set(names)


def test_shard_keys_sort_as_numbers() -> None:
    keys = [shard_key(shard) for shard in range(64)]
    assert keys == sorted(keys)
    assert str(shard_partition_key("handbook", 7)) == "handbook|07"


@pytest.mark.parametrize(
    ("settings", "changed"),
    [
        ({"chunking": {"max_tokens": 100}}, {"chunks"}),
        ({"embedder": {"model": "another"}}, {"embeddings"}),
        ({"index": {"m": 8}}, {"index_entries", "hnsw_index"}),
        ({"index": {"ef_search": 50}}, set()),
        ({"parsing": {"max_characters": 5000}}, {"raw_documents"}),
        ({"gates": {"ndcg_drop": 0.1}}, {"retrieval_evaluation", "live_index"}),
        ({"answers": {"top_k": 2}}, {"answer_evaluation", "latency_benchmark"}),
        ({"benchmark": {"seconds": 1}}, {"latency_benchmark"}),
        ({"judge": {"repeats": 3}}, {"answer_evaluation"}),
    ],
)
def test_a_setting_changes_the_code_version_of_the_assets_it_decides(
    settings: dict[str, dict[str, object]], changed: set[str]
) -> None:
    def versions(chosen: Settings) -> dict[str, str | None]:
        graph = build_definitions(chosen).resolve_asset_graph()
        return {node.key.to_user_string(): node.code_version for node in graph.asset_nodes}

    before, after = versions(TWO), versions(Settings(**{**TWO.model_dump(), **settings}))
    assert {name for name in before if before[name] != after[name]} == changed
