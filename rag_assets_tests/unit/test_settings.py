"""Settings: where each value comes from, and what a mistake is told."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from rag_assets.errors import ConfigurationError
from rag_assets.settings import (
    CollectionSettings,
    IndexSettings,
    Settings,
    find_config,
    load_settings,
)

VARIABLES = ("RAG_CONFIG", "RAG_HOME", "RAG_SOURCE", "RAG_COLLECTION", "RAG_POSTGRES_URL")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of its own, with none of our variables set."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return folder


def toml(folder: Path, text: str) -> Path:
    path = folder / "rag_assets.toml"
    path.write_text(text, encoding="utf-8")
    return path


def complaint(folder: Path, text: str, **options: str) -> str:
    toml(folder, text)
    with pytest.raises(ConfigurationError) as caught:
        load_settings(**options)
    return str(caught.value)


def test_without_a_file_every_setting_has_its_default(project: Path) -> None:
    settings = load_settings()
    assert settings == Settings(home=project / ".rag")
    assert settings.collections == {}
    assert (settings.sync.shards, settings.sync.max_vanished_share, settings.sync.keep_retired) == (8, 0.2, 2)
    assert (settings.index.m, settings.index.ef_construction) == (16, 64)
    assert settings.answers.model == "offline-extractive"


def test_the_file_is_found_from_a_folder_below_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = toml(project, "[sync]\nshards = 3\n")
    below = project / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert find_config() == path
    assert load_settings().sync.shards == 3


def test_rag_config_names_another_file(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toml(project, "[sync]\nshards = 3\n")
    other = tmp_path / "other.toml"
    other.write_text("[sync]\nshards = 5\n")
    monkeypatch.setenv("RAG_CONFIG", str(other))
    assert load_settings().sync.shards == 5


def test_rag_config_that_names_no_file_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_CONFIG", str(project / "nowhere.toml"))
    with pytest.raises(ConfigurationError, match=r"RAG_CONFIG names .*nowhere\.toml, which is not a file"):
        load_settings()


def test_a_flag_beats_the_environment_which_beats_the_file(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toml(project, '[collections.default]\nsource = "from-file"\nexclude = ["*.tmp.md"]\n')
    assert load_settings().collection("default").source == project / "from-file"
    monkeypatch.setenv("RAG_SOURCE", "/from/environment")
    assert load_settings().collection("default").source == Path("/from/environment")
    chosen = load_settings(source="/from/flag").collection("default")
    assert chosen.source == Path("/from/flag")
    assert chosen.exclude == ("*.tmp.md",)


def test_the_collection_of_a_source_follows_flag_then_environment(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(load_settings(source="/x").collections) == ["default"]
    monkeypatch.setenv("RAG_COLLECTION", "env")
    assert list(load_settings(source="/x").collections) == ["env"]
    assert list(load_settings(source="/x", collection="flag").collections) == ["flag"]


def test_home_and_database_of_the_environment_beat_the_file(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toml(project, 'home = "from-file"\npostgres_url = "postgresql://file"\n')
    assert load_settings().home == project / "from-file"
    assert load_settings().postgres_url == "postgresql://file"
    monkeypatch.setenv("RAG_HOME", "/from/environment")
    monkeypatch.setenv("RAG_POSTGRES_URL", "postgresql://environment")
    assert load_settings().home == Path("/from/environment")
    assert load_settings().postgres_url == "postgresql://environment"


def test_relative_paths_are_relative_to_the_settings_file_and_those_of_flags_to_here(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml(
        project,
        '[collections.a]\nsource = "docs"\nquestions = "golden/q.jsonl"\n[answers]\nmodels = "models.yaml"\n',
    )
    below = project / "below"
    below.mkdir()
    monkeypatch.chdir(below)
    settings = load_settings(source="mine", collection="b")
    assert settings.home == project / ".rag"
    assert settings.collection("a") == CollectionSettings(
        source=project / "docs", questions=project / "golden" / "q.jsonl"
    )
    assert settings.answers.models == project / "models.yaml"
    assert settings.collection("b").source == below / "mine"


def test_a_password_in_the_database_url_is_not_shown() -> None:
    assert "secret" not in repr(Settings(postgres_url="postgresql://me:secret@host/db"))


def test_a_remembered_source_is_known_to_later_commands(project: Path) -> None:
    load_settings(source="/srv/documents", remember=True)
    load_settings(source="/srv/handbook", collection="handbook", remember=True)
    later = load_settings()
    assert {name: item.source for name, item in later.collections.items()} == {
        "default": Path("/srv/documents"),
        "handbook": Path("/srv/handbook"),
    }
    load_settings(source="/srv/elsewhere", remember=True)
    assert load_settings().collection("default").source == Path("/srv/elsewhere")


def test_what_the_file_configures_comes_before_what_is_remembered(project: Path) -> None:
    load_settings(source="/srv/a", collection="a", remember=True)
    toml(project, '[collections.z]\nsource = "z"\n')
    assert list(load_settings().collections) == ["z", "a"]
    assert load_settings().target() == "z"


def test_a_source_is_not_remembered_unasked_or_over_the_file(project: Path) -> None:
    load_settings(source="/srv/documents")
    assert load_settings().collections == {}
    toml(project, '[collections.default]\nsource = "docs"\n')
    load_settings(source="/srv/documents", remember=True)
    assert load_settings().collection("default").source == project / "docs"
    assert not (project / ".rag" / "collections.json").exists()


def test_a_name_that_is_refused_is_not_remembered(project: Path) -> None:
    with pytest.raises(ConfigurationError, match="Bad Name"):
        load_settings(source="/srv/documents", collection="Bad Name", remember=True)
    assert load_settings().collections == {}


@pytest.mark.parametrize("content", ["{", "[]", '{"default": 3}', "\x00", '"text"'])
def test_a_damaged_memory_is_named_with_its_cure(project: Path, content: str) -> None:
    path = project / ".rag" / "collections.json"
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert str(caught.value) == f"{path} is damaged. Delete it and run `rag-assets sync --source DIR` again."


def test_the_memory_is_written_whole(project: Path) -> None:
    load_settings(source="/srv/Übung", remember=True)
    folder = project / ".rag"
    assert [item.name for item in folder.iterdir()] == ["collections.json"]
    assert json.loads((folder / "collections.json").read_text(encoding="ascii")) == {"default": "/srv/Übung"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[sync]\nshards = 65\n", ["sync.shards = 65", "less than or equal to 64"]),
        ('[sync]\nshards = "many"\n', ["sync.shards = 'many'", "valid integer"]),
        ("[sync]\nmax_vanished_share = 1.5\n", ["sync.max_vanished_share = 1.5", "less than or equal to 1"]),
        ("[sync]\nkeep_retired = 0\n", ["sync.keep_retired = 0", "greater than or equal to 1"]),
        ("[parsing]\nmax_file_mb = 0\n", ["parsing.max_file_mb = 0", "greater than 0"]),
        ("[chunking]\nmax_tokens = 8\n", ["chunking.max_tokens = 8", "greater than or equal to 16"]),
        ('[chunking]\nstrategy = "magic"\n', ["chunking.strategy = 'magic'", "'recursive'"]),
        ('[embedder]\ndtype = "int4"\n', ["embedder.dtype = 'int4'", "'auto', 'float32', 'bfloat16' or 'float16'"]),
        ("[index]\nm = 16\nef_construction = 20\n", ["index.ef_construction = 20", "at least 2 * m = 32"]),
        ("[index]\nm = 1000\n", ["index.m = 1000", "less than or equal to 100"]),
        ("[collections.a]\n", ["collections.a.source: is required but not set"]),
        ('[collections."Bad Name"]\nsource = "x"\n', ["collections", "'Bad Name'", "[a-z]"]),
        ('[collections.a]\nsource = "x"\nexclude = "y"\n', ["collections.a.exclude = 'y'", "tuple"]),
        (
            '[embedder]\nbackend = "onnx"\n',
            [
                "embedder.backend = 'onnx'",
                "openvino, sentence-transformers, mlx (pip install",
                "'rag-assets[mlx]'",
                "litellm",
            ],
        ),
        ("[sync]\nshard = 4\n", ["sync.shard: there is no such setting", "shards"]),
        ("[nonsense]\nx = 1\n", ["nonsense: there is no such setting", "chunking", "sync"]),
        (
            '[collections.a]\nsource = "x"\n[collections.a.chunking]\nsize = 4\n',
            ["collections.a.chunking.size: there is no such setting", "max_tokens"],
        ),
    ],
)
def test_a_mistake_is_told_with_file_field_value_and_what_is_allowed(
    project: Path, text: str, expected: list[str]
) -> None:
    told = complaint(project, text)
    assert str(project / "rag_assets.toml") in told
    for part in expected:
        assert part in told


def test_all_mistakes_are_told_at_once(project: Path) -> None:
    told = complaint(project, "[sync]\nshards = 0\nkeep_retired = 0\n[index]\nm = 1\n")
    assert "3 setting(s) are wrong" in told
    assert all(name in told for name in ("sync.shards", "sync.keep_retired", "index.m"))


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('collections = "docs"\n', "collections = 'docs'"),
        ("collections = 3\n", "collections = 3"),
        ('collections = ["docs"]\n', "collections = ['docs']"),
        ('[collections]\ndefault = "docs"\n', "collections.default = 'docs'"),
        ("[collections.default]\nsource = 3\n", "collections.default.source = 3"),
        ("home = 3\n", "home = 3"),
        ("answers = 3\n", "answers = 3"),
        ("postgres_url = 3\n", "postgres_url = 3"),
    ],
)
@pytest.mark.parametrize("source", [None, "/srv/documents"])
def test_a_value_of_the_wrong_type_is_a_mistake_not_a_crash(
    project: Path, text: str, field: str, source: str | None
) -> None:
    if source and field.startswith("collections.default.source"):
        return  # the flag replaces the value
    assert field in complaint(project, text, **({"source": source} if source else {}))


@pytest.mark.parametrize("content", [b"[sync\n", b"a = \xff\n", b"shards == 3\n"])
def test_a_file_that_is_not_toml_is_named(project: Path, content: bytes) -> None:
    (project / "rag_assets.toml").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"rag_assets\.toml is not valid TOML"):
        load_settings()


@pytest.mark.parametrize("name", ["a", "handbook", "hr-2026", "a_b", "x" * 48])
def test_a_name_that_can_be_a_partition_key_is_taken(name: str) -> None:
    assert Settings(collections={name: {"source": "x"}}).target() == name


@pytest.mark.parametrize("name", ["", "A", "1a", "a|b", "a b", "a'b", "ä", "x" * 49, "a\n", "../a"])
def test_a_name_that_can_not_be_a_partition_key_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="partition key"):
        Settings(collections={name: {"source": "x"}})


def test_the_target_is_the_named_one_else_default_else_the_first() -> None:
    both = Settings(collections={"z": {"source": "z"}, "default": {"source": "d"}})
    assert (both.target(), both.target("z")) == ("default", "z")
    assert Settings(collections={"z": {"source": "z"}, "a": {"source": "a"}}).target() == "z"


def test_an_unknown_target_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"no collection 'y' \(known: a, z\)"):
        Settings(collections={"z": {"source": "z"}, "a": {"source": "a"}}).target("y")
    with pytest.raises(ConfigurationError, match="Pass --source DIR, set RAG_SOURCE"):
        Settings().target()


def test_a_collection_may_have_its_own_chunking() -> None:
    settings = Settings(
        chunking={"max_tokens": 200},
        collections={"a": {"source": "a"}, "b": {"source": "b", "chunking": {"max_tokens": 100}}},
    )
    assert (settings.chunking_of("a").max_tokens, settings.chunking_of("b").max_tokens) == (200, 100)


def test_settings_can_not_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().sync.shards = 3  # type: ignore[misc]


def test_the_smallest_index_pgvector_takes_is_taken() -> None:
    assert IndexSettings(m=2, ef_construction=4).m == 2


def thresholds(project: Path, text: str) -> Path:
    path = project / "evals" / "thresholds.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_thresholds_hold_for_every_collection_or_for_one(project: Path) -> None:
    toml(
        project,
        '[gates]\nndcg_drop = 0.1\nann_recall_p05 = 0.7\n[collections.a]\nsource = "a"\n[collections.b]\nsource = "b"\n',
    )
    thresholds(
        project,
        'ndcg_drop = 0.05\nfloors = {"ndcg@10" = 0.5}\n[collections.b]\nann_recall_p05 = 0.9\n'
        '[collections.b.floors]\n"recall@10" = 0.8\n',
    )
    settings = load_settings()
    first, second = settings.gates_of("a"), settings.gates_of("b")
    assert (first.ndcg_drop, first.ann_recall_p05, first.floors) == (0.05, 0.7, {"ndcg@10": 0.5})
    assert (second.ndcg_drop, second.ann_recall_p05) == (0.05, 0.9)
    assert second.floors == {"ndcg@10": 0.5, "recall@10": 0.8}


def test_thresholds_stand_in_the_file_that_is_named(project: Path) -> None:
    toml(project, 'thresholds = "mine.toml"\n')
    (project / "mine.toml").write_text("ndcg_drop = 0.3\n")
    thresholds(project, "ndcg_drop = 0.4\n")
    assert load_settings().gates.ndcg_drop == 0.3
    (project / "mine.toml").unlink()
    assert "mine.toml can't be read" in complaint(project, 'thresholds = "mine.toml"\n')


def test_thresholds_that_protect_nothing_are_refused(project: Path) -> None:
    configuration = '[collections.handbook]\nsource = "a"\n'
    thresholds(project, "[collections.handbok]\nndcg_drop = 0.1\n")
    assert "there is no collection handbok (known: handbook)" in complaint(project, configuration)
    thresholds(project, "ndcg_dorp = 0.1\n")
    assert "ndcg_dorp: there is no such setting; known here: ann_recall_mean" in complaint(project, configuration)
    thresholds(project, '[collections.handbook.floors]\n"ndcg@10" = 7\n')
    said = complaint(project, configuration)
    assert "evals/thresholds.toml: 1 setting(s) are wrong" in said
    assert "collections.handbook.floors.ndcg@10 = 7" in said
