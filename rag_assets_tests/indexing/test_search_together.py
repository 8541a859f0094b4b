"""Several collections searched as if they were one."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest

from rag_assets.errors import ConfigurationError, RagAssetsError
from rag_assets.indexing.sync import sync
from rag_assets.retrieval.filters import parse_filters
from rag_assets.retrieval.search import search
from rag_assets.retrieval.together import live_collections, search_together
from rag_assets_tests.driving import OpenIndex, WarmRuntime, write
from rag_assets_tests.fakes import DirectRunner, FakeTokenEmbedder

TEXTS = {
    "birds/otter.md": "# Otters\n\nOtters hold hands while they sleep on the river.\n",
    "birds/heron.md": "# Herons\n\nHerons stand in the river and wait for fish.\n",
    "rocks/basalt.md": "---\nteam: geology\n---\n# Basalt\n\nBasalt is a dark rock that lava leaves behind.\n",
    "rocks/river.md": "---\nteam: geology\n---\n# Pebbles\n\nThe river grinds every rock to a pebble in the end.\n",
}


@pytest.fixture
def zoo(open_index: OpenIndex, source: Path) -> WarmRuntime:
    """Collections ``birds`` and ``rocks``, and ``everything``, not yet indexed, with the documents of both."""
    for name, text in TEXTS.items():
        write(source, name, text)
    places: dict[str, Any] = {"everything": source, "birds": source / "birds", "rocks": source / "rocks"}
    index = open_index(collections={name: {"source": place} for name, place in places.items()}, sync={"shards": 1})
    for name in ("birds", "rocks"):
        sync(index, name, lambda name=name: DirectRunner(index))  # type: ignore[misc]
    return index


def names(found: Any) -> list[str]:
    return [f"{hit.collection}/{hit.document}" for hit in found.hits]


def test_what_is_found_together_is_ranked_as_in_one_index(zoo: WarmRuntime) -> None:
    sync(zoo, "everything", lambda: DirectRunner(zoo))
    for question, mode in product(("otters sleep on the river", "dark rock of lava", "fish"), ("dense", "hybrid")):
        together = search_together(zoo, question, ["birds", "rocks"], k=4, overrides={"mode": mode})
        alone = search(
            zoo, question, collection="everything", k=4,
            retrieval=zoo.settings.retrieval.model_copy(update={"mode": mode}),
        )  # fmt: skip
        assert together.fusion == "scores"
        assert names(together)[0] == alone.hits[0].document
        if mode == "dense":
            assert names(together) == [hit.document for hit in alone.hits]
        assert [hit.rank for hit in together.hits] == [1, 2, 3, 4]


def test_a_model_that_can_not_read_the_question_has_no_say_between_collections_either(zoo: WarmRuntime) -> None:
    zoo.embedder.coverage = lambda text: 0.0  # type: ignore[attr-defined]
    together = search_together(zoo, "river rock", ["birds", "rocks"], k=4)
    words = [(hit.scores["fused"], hit.scores["bm25"]) for hit in together.hits]
    highest = max(bm25 or 0.0 for _, bm25 in words)
    lowest = min(bm25 or 0.0 for _, bm25 in words)
    for fused, bm25 in words:
        assert fused == pytest.approx(((bm25 or 0.0) - lowest) / (highest - lowest), abs=1e-4)


def test_the_order_of_the_names_does_not_matter_and_a_name_given_twice_counts_once(zoo: WarmRuntime) -> None:
    one = search_together(zoo, "river", ["birds", "rocks"])
    other = search_together(zoo, "river", ["rocks", "birds", "rocks"])
    assert names(one) == names(other)
    assert {name: result.generation.name for name, result in one.found.items()} == {
        "birds": "birds#1",
        "rocks": "rocks#1",
    }
    assert names(search_together(zoo, "river", ["birds"])) == names(search(zoo, "river", collection="birds"))


def test_collections_of_different_models_are_fused_by_rank(zoo: WarmRuntime, open_index: OpenIndex) -> None:
    collections = {name: {"source": zoo.settings.collection(name).source} for name in ("birds", "rocks")}
    later = open_index(collections=collections, sync={"shards": 1}, embedder={"model": "another"})
    sync(later, "rocks", lambda: DirectRunner(later))
    together = search_together(later, "the river", ["birds", "rocks"], k=4)
    assert together.fusion == "ranks"
    assert {name.split("/")[0] for name in names(together)[:2]} == {"birds", "rocks"}


def test_reranked_hits_are_ordered_by_the_reranker_over_all_collections(zoo: WarmRuntime) -> None:
    model = zoo.settings.embedder.model
    zoo.fakes[model] = FakeTokenEmbedder(version=model, dimension=64)
    overrides = {"rerank": "late-interaction", "rerank_weight": 1.0}
    together = search_together(zoo, "river pebble", ["birds", "rocks"], overrides=overrides)
    scores = [hit.scores["rerank"] or 0.0 for hit in together.hits]
    assert together.reranked
    assert len({hit.collection for hit in together.hits}) == 2
    assert scores == sorted(scores, reverse=True)
    assert names(together)[0] == "rocks/river.md"


def test_a_filter_by_a_field_of_one_collection_passes_nothing_of_the_others(zoo: WarmRuntime) -> None:
    found = search_together(zoo, "river", ["birds", "rocks"], filters=parse_filters(["team=geology"]))
    assert {hit.collection for hit in found.hits} == {"rocks"}
    others = search_together(zoo, "river", ["birds", "rocks"], filters=parse_filters(["team!=geology"]))
    assert {hit.collection for hit in others.hits} == {"birds"}
    with pytest.raises(ConfigurationError, match="teem"):
        search_together(zoo, "river", ["birds", "rocks"], filters=parse_filters(["teem=geology"]))


def test_what_can_not_be_searched_is_said(zoo: WarmRuntime, open_index: OpenIndex, source: Path) -> None:
    more = {name: {"source": item.source} for name, item in zoo.settings.collections.items()}
    index = open_index(collections={**more, "fresh": {"source": source}})
    assert live_collections(index) == ["birds", "rocks"]
    with pytest.raises(RagAssetsError, match="'fresh' has no live index"):
        search_together(index, "river", ["birds", "fresh"])
    with pytest.raises(ConfigurationError, match="no collection 'nope'"):
        search_together(index, "river", ["birds", "nope"])
    with pytest.raises(ConfigurationError, match="Name one"):
        search_together(index, "river", [])
    with pytest.raises(ConfigurationError, match="k = 0"):
        search_together(index, "river", ["birds"], k=0)
