"""Hashes of large files are looked up while the file is what it was, and only then."""

import json
import os
import shutil
import subprocess
import sys
import time
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest

from rag_assets.embedding.model_cache import file_hash
from rag_assets.embedding.openvino import OpenVinoEmbedder
from rag_assets.embedding.openvino_cache import converted_model
from rag_assets.embedding.openvino_runtime import HiddenStates
from rag_assets.settings import EmbedderSettings
from rag_assets_tests.unit.embedding.models import BUNDLED

LARGE = b"w" * 1_500_000
TEXTS = [
    "The pump's seal is replaced every 2,000 operating hours.",
    "Short.",
    "A deleted document must not answer. " * 40,
]


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where an empty cache keeps its notes."""
    monkeypatch.setenv("RAG_MODEL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "hashes.json"


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a large file that was written long enough ago."""
    folder = tmp_path_factory.mktemp("settled")
    (folder / "weights").write_bytes(LARGE)
    time.sleep(2.2)
    return folder


def digest(data: bytes) -> str:
    return blake2b(data, digest_size=16).hexdigest()


def planted(notes: Path) -> None:
    """Replace every noted hash by one that no file has."""
    found = {name: [*note[:-1], "planted"] for name, note in json.loads(notes.read_text()).items()}
    notes.write_text(json.dumps(found))


class TestHashes:
    def test_a_large_file_that_is_what_it_was_is_not_read_again(self, notes: Path, settled: Path) -> None:
        assert file_hash(settled / "weights") == digest(LARGE)
        planted(notes)

        assert file_hash(settled / "weights") == "planted"

    def test_one_of_the_same_size_and_modification_time_is_read(
        self, notes: Path, settled: Path, tmp_path: Path
    ) -> None:
        path = tmp_path / "weights"
        path.write_bytes(LARGE)
        before = path.stat()
        time.sleep(2.2)
        file_hash(path)
        planted(notes)
        assert file_hash(path) == "planted"

        with path.open("r+b") as file:
            file.write(b"x")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

        assert path.stat().st_mtime_ns == before.st_mtime_ns
        assert file_hash(path) == digest(b"x" + LARGE[1:])

    def test_one_that_was_just_written_is_not_trusted_to_stay(self, notes: Path, tmp_path: Path) -> None:
        path = tmp_path / "weights"
        path.write_bytes(LARGE)

        assert file_hash(path) == digest(LARGE)
        assert not notes.exists()

    def test_small_files_are_always_read(self, notes: Path, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text("{}")
        time.sleep(2.2)

        assert file_hash(tmp_path / "config.json") == digest(b"{}")
        assert not notes.exists()

    @pytest.mark.parametrize("damage", ["", "[1]", '{"half', '{"PATH": 5}', '{"PATH": {}}', '{"PATH": []}'])
    def test_broken_notes_are_none(self, notes: Path, tmp_path: Path, damage: str) -> None:
        path = tmp_path / "weights"
        notes.parent.mkdir()
        notes.write_text(damage.replace("PATH", str(path)))
        path.write_bytes(LARGE)

        assert file_hash(path) == digest(LARGE)

    def test_a_full_disk_leaves_nothing_behind(self, notes: Path, settled: Path) -> None:
        script = (
            "import resource, signal, sys; from pathlib import Path; from rag_assets.embedding.model_cache import file_hash\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16))\n"
            "print(file_hash(Path(sys.argv[1])))\n"
        )
        command = [sys.executable, "-B", "-c", script, str(settled / "weights")]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout

        assert said.strip() == digest(LARGE)
        assert list(notes.parent.iterdir()) == []

    def test_a_cache_that_cannot_be_written_costs_the_reading_only(
        self, settled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").write_text("in the way")
        monkeypatch.setenv("RAG_MODEL_CACHE", str(tmp_path / "file"))

        assert file_hash(settled / "weights") == digest(LARGE)


class TestCompiledGraphs:
    @pytest.fixture
    def model(self, tmp_path: Path) -> Path:
        """A copy of the converted model, without what was kept of it."""
        embedder = OpenVinoEmbedder(EmbedderSettings(model=BUNDLED))
        found = converted_model(embedder._folder, embedder._files, embedder.name)
        for path in (found, found.with_suffix(".bin")):
            shutil.copy(path, tmp_path)
        return tmp_path / found.name

    def vectors(self, model: Path) -> np.ndarray:
        embedder = OpenVinoEmbedder(EmbedderSettings(model=BUNDLED, dtype="float32"))
        return embedder.encode_with(HiddenStates(model, "float32"), TEXTS, "document")

    def test_the_next_process_gets_the_same_vectors_from_what_was_kept(self, model: Path) -> None:
        first = self.vectors(model)
        kept = list((model.parent / "compiled").rglob("*.blob"))

        again = self.vectors(model)

        assert len(kept) == 1
        assert kept[0].stat().st_size < model.with_suffix(".bin").stat().st_size / 10
        assert np.array_equal(first, again)

    def test_each_number_type_has_its_own(self, model: Path) -> None:
        for dtype in ("float32", "bfloat16", "float32"):
            HiddenStates(model, dtype)

        assert len(list((model.parent / "compiled").rglob("*.blob"))) == 2

    @pytest.mark.parametrize("share", [0.0, 0.001, 0.5])
    def test_what_is_broken_is_made_again(self, model: Path, share: float) -> None:
        first = self.vectors(model)
        (kept,) = (model.parent / "compiled").rglob("*.blob")
        whole = kept.read_bytes()
        kept.chmod(0o600)
        kept.write_bytes(whole[: int(share * len(whole))])

        assert np.array_equal(self.vectors(model), first)
        assert kept.stat().st_size > 0.9 * len(whole)

    def test_a_folder_where_nothing_can_be_kept_is_no_fault(self, model: Path) -> None:
        (model.parent / "compiled").write_text("in the way")

        assert np.isfinite(self.vectors(model)).all()
