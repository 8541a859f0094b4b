"""An index in Weaviate: the whole way to an answer, and how it converges after whatever went wrong."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from rag_assets.doctor import examine
from rag_assets.errors import ConfigurationError, RagAssetsError
from rag_assets.indexing import promotion
from rag_assets.indexing.forgetting import forget
from rag_assets.indexing.garbage import collect_garbage
from rag_assets.indexing.integrity import inspect
from rag_assets.indexing.reconcile import reconcile_live
from rag_assets.indexing.status import describe
from rag_assets.retrieval.filters import parse_filters
from rag_assets.retrieval.search import search
from rag_assets.runtime import index_fingerprint, store_config
from rag_assets.settings import IndexSettings, LexicalSettings, Settings
from rag_assets.stores.weaviate import rows
from rag_assets.stores.weaviate.objects import alias_name, object_id
from rag_assets_tests.driving import (
    OpenIndex,
    WarmRuntime,
    answers,
    corpus,
    live,
    live_rows,
    query,
    run,
    wanted_rows,
    write,
)
from rag_assets_tests.weaviate_fake import FakeWeaviate
from rag_assets_tests.weaviate_fake.server import nothing_refused
from rag_assets_tests.weaviate_fake.storage import Stored

ALIAS = "RagAssets_Default"


@pytest.fixture
def fake() -> Iterator[FakeWeaviate]:
    with FakeWeaviate() as server:
        yield server


def opened(
    open_index: OpenIndex, fake: FakeWeaviate, *, more: Mapping[str, Any] | None = None, **settings: Any
) -> WarmRuntime:
    outside = {**fake.settings, "attempts": 2, "batch_size": 5, **(more or {})}
    return open_index(store="weaviate", weaviate=outside, **settings)


def mirrored(fake: FakeWeaviate, name: str = ALIAS, tenant: str = "") -> dict[str, str]:
    """Chunk id -> text of every object, whose ids are what they must be."""
    objects = fake.objects(name, tenant)
    assert all(key == object_id(item.properties["chunk_id"]) for key, item in objects.items())
    return {item.properties["chunk_id"]: item.properties["text"] for item in objects.values()}


def wanted(runtime: WarmRuntime) -> dict[str, str]:
    return {chunk_id: row[1] for chunk_id, row in live_rows(runtime).items()}


def outstanding(runtime: WarmRuntime) -> int:
    return int(query(runtime, "SELECT count(*) FROM store_outbox")[0][0])


def test_the_whole_way_shards_checks_promotion_answers_rollback_forget(
    open_index: OpenIndex, fake: FakeWeaviate, source: Path
) -> None:
    corpus(source, 4)
    plain = open_index()
    run(plain)
    before = answers(plain, "topic 7", "document 3")
    index = opened(open_index, fake)

    report = run(index)

    assert report.generation["promoted"], report.refused
    assert report.embeddings["computed"] == 0
    assert mirrored(fake) == wanted(index)
    assert {key: row[:3] for key, row in live_rows(index).items()} == {
        k: r[:3] for k, r in wanted_rows(index, source).items()
    }
    assert [[hit[:2] for hit in hits] for hits in answers(index, "topic 7", "document 3")] == [
        [hit[:2] for hit in hits] for hits in before
    ]
    hit = search(index, "topic 7", filters=parse_filters(["document=d01.md"]), k=3).hits[0]
    assert hit.document == "d01.md"
    assert {"dense", "bm25", "fused"} <= {name for name, score in hit.scores.items() if score is not None}
    assert describe(index, "default")["collections"][0]["store"] == "weaviate"
    assert inspect(index, live(index)).faults == 0

    write(source, "d01.md", "# Fresh\n\nOnly words that are new.\n")
    (source / "d02.md").unlink()
    run(index)
    assert mirrored(fake) == wanted(index)
    assert search(index, "fresh words").hits[0].document == "d01.md"

    first = fake.aliases[ALIAS]
    second = opened(open_index, fake, index={"m": 8, "ef_construction": 32})
    run(second)
    assert fake.aliases[ALIAS] != first
    assert (
        fake.collections[fake.aliases[ALIAS]].schema["vectorConfig"]["default"]["vectorIndexConfig"]["maxConnections"]
        == 8
    )
    promotion.rollback(second, "default", who="test")
    assert fake.aliases[ALIAS] == first
    assert mirrored(fake) == wanted(second)

    gone = forget(second, "default", "d03.md")
    assert gone.left["weaviate"] == 0
    assert not any(gone.left.values())
    assert not [
        item
        for collection in fake.collections.values()
        for item in collection.tenants[""].values()
        if "d03.md" in item.properties["payload"]
    ]


def test_a_collection_may_have_a_store_of_its_own_and_going_back_takes_the_alias_away(
    open_index: OpenIndex, fake: FakeWeaviate, source: Path
) -> None:
    corpus(source, 2)
    outside = {**fake.settings, "multi_tenancy": True, "replication_factor": 3, "consistency_level": "ALL"}
    index = open_index(collection={"store": "weaviate"}, weaviate=outside)
    run(index)
    assert mirrored(fake, tenant="default") == wanted(index)
    schema = fake.collections[fake.aliases[ALIAS]].schema
    assert (schema["multiTenancyConfig"]["enabled"], schema["replicationConfig"]["factor"]) == (True, 3)
    assert {about for asked, about in fake.requests if asked == "BatchObjects"} == {"CONSISTENCY_LEVEL_ALL"}

    keep = {"shards": 3, "keep_retired": 1}
    run(open_index(weaviate=outside, sync=keep))
    assert ALIAS not in fake.aliases
    assert len(fake.collections) == 1
    run(open_index(weaviate=outside, sync=keep, index={"m": 8}))
    assert fake.collections == {}


def test_a_server_that_is_gone_for_good_keeps_nobody_from_leaving_it(
    open_index: OpenIndex, fake: FakeWeaviate, source: Path
) -> None:
    corpus(source, 3)
    run(opened(open_index, fake))
    corpus(source, 4)
    back = open_index(weaviate={"url": "http://127.0.0.1:9", "grpc_port": 10})
    assert run(back).generation["promoted"]
    assert len(search(back, "topic", k=9).hits) == len(wanted(back))
    # What the old one lacks is noted, should its server come back.
    assert outstanding(back)
    run(opened(open_index, fake))
    assert outstanding(back) == 0


def test_what_a_search_chooses_in_postgresql_is_a_setting_of_the_collection(
    open_index: OpenIndex, fake: FakeWeaviate, source: Path
) -> None:
    corpus(source, 1)
    run(opened(open_index, fake))
    run(opened(open_index, fake, index={"ef_search": 222}, lexical={"k1": 0.9, "b": 0.4}))
    (collection,) = fake.collections.values()
    assert collection.schema["vectorConfig"]["default"]["vectorIndexConfig"]["ef"] == 222
    assert collection.schema["invertedIndexConfig"]["bm25"] == {"k1": 0.9, "b": 0.4}


def test_a_refused_object_fails_the_run_by_name_and_the_next_one_sends_it(
    open_index: OpenIndex, fake: FakeWeaviate, source: Path
) -> None:
    corpus(source, 4)
    index = opened(open_index, fake)
    fake.refusing = lambda held: "disk is full" if "document 2" in held["text"] else None
    with pytest.raises(
        RagAssetsError, match=r"refused \d objects of default#1 2 times \([0-9a-f]+: .*disk is full.*stay noted"
    ):
        run(index)
    assert outstanding(index)
    fake.refusing = nothing_refused
    report = run(index)
    assert report.generation["promoted"]
    assert (mirrored(fake), outstanding(index)) == (wanted(index), 0)

    # The same of a deletion.
    (source / "d01.md").unlink()
    fake.refusing = lambda held: "read-only shard"
    with pytest.raises(RagAssetsError, match="read-only shard"):
        run(index)
    fake.refusing = nothing_refused
    assert run(index).chunks["removed"] == 0
    assert (mirrored(fake), outstanding(index)) == (wanted(index), 0)


def test_batches_that_die_half_applied_or_answer_too_late_are_sent_again(
    open_index: OpenIndex, fake: FakeWeaviate, source: Path
) -> None:
    corpus(source, 8)
    index = opened(open_index, fake)
    fake.die_after(1)
    run(index)
    assert fake.dying == []
    assert mirrored(fake) == wanted(index)

    write(source, "d00.md", "# Other\n\nOther words.\n\nAnd more of them.\n")
    fake.die_after(0, 0, 0, 0)
    with pytest.raises(RagAssetsError, match="died in the middle"):
        run(index)
    fake.die_after()
    run(index)
    assert (mirrored(fake), outstanding(index)) == (wanted(index), 0)

    write(source, "d00.md", "# Third\n\nThird words.\n")
    late = opened(open_index, fake, more={"insert_seconds": 0.3})
    fake.delay_seconds = 0.6
    with pytest.raises(RagAssetsError, match=f"Weaviate at {fake.url}"):
        run(late)
    fake.delay_seconds = 0.0
    run(index)
    assert (mirrored(fake), outstanding(index)) == (wanted(index), 0)


def test_a_change_made_while_an_earlier_one_is_sent_is_sent_as_well_and_nobody_else_sends(
    open_index: OpenIndex, fake: FakeWeaviate, source: Path
) -> None:
    corpus(source, 1)
    index = opened(open_index, fake)
    run(index)
    generation, (chunk_id,) = live(index), wanted(index)
    seen: list[bool] = []

    def meanwhile(held: dict[str, Any]) -> None:
        with index.database.transaction() as connection:
            free = connection.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", (rows.LOCK, generation.id)).fetchone()
            rows.note(connection, generation, [chunk_id])
            seen.append(bool(free and free[0]))

    with index.database.transaction() as connection:
        rows.note(connection, generation, [chunk_id])
    fake.refusing = meanwhile
    index.store_of(generation).catch_up(index.database, generation)
    assert (seen, outstanding(index)) == ([False], 1)
    fake.refusing = nothing_refused
    index.store_of(generation).catch_up(index.database, generation)
    assert outstanding(index) == 0


def test_one_reconcile_makes_the_mirror_equal_whatever_happened_to_it(
    open_index: OpenIndex, fake: FakeWeaviate, source: Path
) -> None:
    corpus(source, 8)
    index = opened(open_index, fake)
    run(index)
    objects = fake.objects(ALIAS)
    lost, changed, blank, turned = sorted(objects)[:4]
    del objects[lost]
    objects[changed].properties["text"] = "forged"
    objects[blank].properties.clear()
    vector = objects[turned].vector
    assert vector is not None
    objects[turned].vector = vector[::-1].copy()
    stray = objects[sorted(objects)[5]]
    foreign = "00000000-0000-4000-8000-000000000000"
    objects[foreign] = Stored(foreign, dict(stray.properties), stray.vector)
    fake.aliases.clear()
    (own,) = fake.collections
    for other in (f"{own}99", "Others"):
        fake.duplicate(own, other)

    found = reconcile_live(index, "default")

    assert found is not None
    assert (found.before.missing, found.before.wrong, found.before.extra) == (2, 2, 2)
    assert found.after.faults == 0
    assert mirrored(fake) == wanted(index)
    assert sorted(fake.collections) == ["Others", fake.aliases[ALIAS]]

    # A server that lost everything.
    fake.collections.clear()
    fake.aliases.clear()
    with pytest.raises(RagAssetsError, match=r"does not have default#1. Run `rag-assets reconcile`"):
        search(index, "topic 7")
    run(index)
    assert mirrored(fake) == wanted(index)


def test_garbage_leaves_what_is_not_ours(open_index: OpenIndex, fake: FakeWeaviate, source: Path) -> None:
    corpus(source, 2)
    index = opened(open_index, fake)
    run(index)
    (own,) = fake.collections
    for other in (f"{own}98", "RagAssets_other_g1", "Team"):
        fake.duplicate(own, other)
    assert collect_garbage(index, "default").outside == (f"{own}98",)
    assert sorted(fake.collections) == sorted([own, "RagAssets_other_g1", "Team"])


def test_a_failed_forgetting_forgets_nothing_and_can_be_repeated(
    open_index: OpenIndex, fake: FakeWeaviate, source: Path
) -> None:
    corpus(source, 2)
    index = opened(open_index, fake)
    run(index)
    fake.refusing = lambda held: "read-only shard"
    with pytest.raises(RagAssetsError, match="Nothing was forgotten"):
        forget(index, "default", "d01.md")
    assert "d01.md" in {row[0] for row in live_rows(index).values()}
    fake.refusing = nothing_refused
    done = forget(index, "default", "d01.md")
    assert done.left["weaviate"] == 0
    assert mirrored(fake) == wanted(index)


UNFIT: tuple[tuple[dict[str, Any], dict[str, Any], type[RagAssetsError], str], ...] = (
    ({"version": "1.31.9"}, {}, RagAssetsError, "too old: it is release 1.31.9. 1.32 or later is needed"),
    ({"version": "1.20.0"}, {}, RagAssetsError, "too old: .*1.20.0.* 1.32 or later is needed"),
    ({}, {"url": "http://127.0.0.1:9"}, RagAssetsError, "http://127.0.0.1:9 can't be reached within 10 s"),
    (
        {},
        {"grpc_port": 9, "connect_seconds": 0.5},
        RagAssetsError,
        "gRPC address 127.0.0.1:9 did not answer within 0.5 s",
    ),
    ({"api_key": "right"}, {}, ConfigurationError, "refuses our credentials. Set weaviate.api_key_env"),
    (
        {"api_key": "right"},
        {"api_key_env": "W_KEY"},
        ConfigurationError,
        "refuses our credentials. Correct the key in W_KEY",
    ),
    ({}, {"api_key_env": "W_NONE"}, ConfigurationError, "variable W_NONE, which is not set"),
)


def test_a_server_that_is_not_fit_is_named_before_anything_is_written(
    open_index: OpenIndex, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus(source, 1)
    monkeypatch.setenv("W_KEY", "wrong")
    for fake_settings, more, error, message in UNFIT:
        with FakeWeaviate(**fake_settings) as server:
            index = opened(open_index, server, more=more)
            with pytest.raises(error, match=message):
                run(index)
            assert query(index, "SELECT count(*) FROM source_file") == [(0,)]
            assert query(index, "SELECT count(*) FROM generation") == [(0,)]
            assert server.collections == {}
            index.close()


def test_the_right_key_opens_both_sides(open_index: OpenIndex, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus(source, 1)
    monkeypatch.setenv("W_KEY", "right")
    with FakeWeaviate(api_key="right") as server:
        index = opened(open_index, server, more={"api_key_env": "W_KEY"})
        run(index)
        assert mirrored(server) == wanted(index)


def test_doctor_shows_the_server(
    tmp_path: Path, source: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch, fake: FakeWeaviate
) -> None:
    corpus(source, 1)
    settings = (
        f'store = "weaviate"\n[collections.default]\nsource = "documents"\n'
        f'[weaviate]\nurl = "{fake.url}"\ngrpc_port = {fake.grpc_port}\n'
    )
    (tmp_path / "rag_assets.toml").write_text(settings, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RAG_POSTGRES_URL", postgres_url)
    (found,) = [finding for finding in examine() if finding.name == "weaviate"]
    assert (found.state, found.text) == ("ok", f"Weaviate 1.33.0 at {fake.url}")
    fake.version = "1.31.0"
    (found,) = [finding for finding in examine() if finding.name == "weaviate"]
    assert found.state == "broken"

    wrong = settings.replace('"weaviate"', '"pinecone"', 1)
    (tmp_path / "rag_assets.toml").write_text(wrong, encoding="utf-8")
    (found,) = [finding for finding in examine() if finding.name == "settings"]
    assert "store = 'pinecone': Input should be 'pgvector' or 'weaviate'" in found.text


def test_a_store_is_part_of_an_index_and_its_address_is_not() -> None:
    def key(**settings: Any) -> str:
        made = Settings(collections={"c": {"source": Path("/tmp")}}, **settings)
        return index_fingerprint(made.index, made.lexical, store_config(made, "c"))

    # As it was before there were stores to choose from: no index in PostgreSQL is built anew.
    assert key() == index_fingerprint(IndexSettings(), LexicalSettings())
    mine = key(store="weaviate")
    assert mine != key()
    assert mine == key(store="weaviate", weaviate={"url": "http://elsewhere:1", "consistency_level": "ALL"})
    assert mine != key(store="weaviate", weaviate={"replication_factor": 2})


def test_names_of_aliases_are_never_alike() -> None:
    names = ["a-b", "a_b", "a--b", "a__b", "a-ub", "a_ub", "a-_b", "ab", "a-", "a_"]
    assert alias_name("RagAssets", "my-docs") == "RagAssets_My__docs"
    assert len({alias_name("R", name) for name in names}) == len(names)
