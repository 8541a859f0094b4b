"""The asset graph with ``store = "weaviate"``: the same assets, checks and promotion."""

from pathlib import Path

from rag_assets_tests.defs.conftest import OpenDagster
from rag_assets_tests.driving import corpus, live, live_rows, write
from rag_assets_tests.weaviate_fake import FakeWeaviate


def test_the_whole_graph_runs_and_its_checks_see_what_the_server_holds(open_dagster: OpenDagster, source: Path) -> None:
    corpus(source, 4)
    asked = '{"id": "q", "question": "topic 7", "relevant": [{"document": "d01.md"}]}\n'
    questions = write(source.parent, "questions.jsonl", asked)
    with FakeWeaviate() as fake:
        dagster = open_dagster(store="weaviate", weaviate=fake.settings, collection={"questions": questions})
        dagster.update_all()
        (collection,) = fake.collections.values()
        taken = next(iter(collection.tenants[""]))
        kept = collection.tenants[""].pop(taken)

        refused = dagster.publish()
        assert not refused.success
        assert "complete" in {check.check_name for check in refused.get_asset_check_evaluations() if not check.passed}
        assert dagster.runtime.live("default") is None
        assert fake.aliases == {}

        collection.tenants[""][taken] = kept
        done = dagster.publish()
        assert done.success
        assert all(check.passed for check in done.get_asset_check_evaluations())
        held = {item.properties["chunk_id"] for item in fake.objects("RagAssets_Default").values()}
        assert held == set(live_rows(dagster.runtime))
        assert live(dagster.runtime).config["store"]["kind"] == "weaviate"
