"""Converted models on disk: made once, proven before use, made again when damaged."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rag_assets.embedding import model_files
from rag_assets.embedding.model_cache import cache_folder
from rag_assets.embedding.openvino_cache import converted_model
from rag_assets.errors import RagAssetsError
from rag_assets_tests.unit.embedding.models import write_pipeline

CONVERT = """
import sys
from pathlib import Path
from rag_assets.embedding import model_files
from rag_assets.embedding.openvino_cache import converted_model
folder = Path(sys.argv[1])
print(converted_model(folder, model_files.files_hash(folder), "tiny"))
"""


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for one test."""
    monkeypatch.setenv("RAG_MODEL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of this module's own: models in the session's are mapped into other test processes, and may not be damaged."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("own-cache")
        patch.setenv("RAG_MODEL_CACHE", str(folder))
        yield folder


def converted(folder: Path) -> Path:
    return converted_model(folder, model_files.files_hash(folder), "tiny")


@pytest.mark.slow
def test_two_processes_that_convert_at_once_both_get_the_same_sound_model(own_cache: Path, tiny: Path) -> None:
    command = [sys.executable, "-c", CONVERT, str(tiny)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = {process.communicate(timeout=120)[0].strip() for process in processes}

    assert [process.returncode for process in processes] == [0, 0]
    assert len(said) == 1
    assert Path(said.pop()) == converted(tiny)
    assert [path.name for path in (own_cache / "openvino").iterdir() if path.is_dir()] == [converted(tiny).parent.name]


@pytest.mark.usefixtures("own_cache")
@pytest.mark.slow
def test_a_damaged_model_is_converted_again_and_a_sound_one_is_not(tiny: Path) -> None:
    xml = converted(tiny)
    weights = xml.with_suffix(".bin")
    whole, made = weights.read_bytes(), weights.stat().st_mtime_ns

    assert converted(tiny) == xml
    assert weights.stat().st_mtime_ns == made

    weights.write_bytes(whole[: len(whole) // 2])

    assert converted(tiny) == xml
    assert weights.read_bytes() == whole


def test_a_model_that_cannot_be_converted_says_why_and_leaves_nothing(empty_cache: Path, tmp_path: Path) -> None:
    write_pipeline(tmp_path / "empty")
    (tmp_path / "empty" / "config.json").write_text('{"model_type": "bert", "hidden_size": 64}')

    with pytest.raises(RagAssetsError, match=r"'tiny' can't be converted.*safetensors.*backend = \"sentence-trans"):
        converted(tmp_path / "empty")

    assert [path for path in (empty_cache / "openvino").iterdir() if path.is_dir()] == []


def test_a_cache_that_cannot_be_written_says_which_and_what_to_do(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("RAG_MODEL_CACHE", str(tmp_path / "file"))

    with pytest.raises(RagAssetsError, match=r"file/openvino: Not a directory.*RAG_MODEL_CACHE"):
        converted(tiny)


def test_the_cache_is_the_users_unless_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RAG_MODEL_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    users = cache_folder()
    monkeypatch.setenv("RAG_MODEL_CACHE", "~/models")

    assert users.name == "rag-assets"
    assert cache_folder() == Path.home() / "models"
