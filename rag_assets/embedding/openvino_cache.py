"""Models converted for OpenVINO, kept between processes: ``<cache>/openvino/<key>/model.xml`` and ``model.bin``.

A folder appears whole or not at all (made beside its place, then renamed). A note of the files' hashes lies in it; a
folder that doesn't match its note is made again.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from rag_assets.embedding.model_cache import cache_folder, file_hash
from rag_assets.errors import RagAssetsError
from rag_assets.fingerprint import fingerprint

_FORMAT = 1
"""Raised when a conversion by other rules must replace those in the cache."""
_XML, _BIN, _NOTE = "model.xml", "model.bin", "files.json"
_TIMEOUT_SECONDS = 300
"""Of one conversion. The bundled model takes 8 s, most of it imports."""
_CURE = 'set embedder.backend = "sentence-transformers" to run it with PyTorch'


def converted_model(folder: Path, files: str, name: str) -> Path:
    """The ``model.xml`` of a model folder; converts it first where the cache has no sound copy (about 10 s).

    Any number of processes may ask at once: one converts, the others wait for it.

    Args:
        folder: a sentence-transformers model folder.
        files: its ``files_hash``.
        name: the model, as people call it.

    Raises:
        RagAssetsError: it can't be converted, or the cache can't be written.
    """
    key = fingerprint({"files": files, "openvino": version("openvino"), "format": _FORMAT})
    place = cache_folder() / "openvino" / key
    if _is_sound(place):
        return place / _XML
    from filelock import FileLock

    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(place.with_suffix(".lock")):
            if not _is_sound(place):
                _convert_into(place, folder, name)
    except OSError as error:
        raise RagAssetsError(
            f"The model {name!r} can't be kept converted in {place.parent}: {error.strerror or error}. "
            f"Name a folder that can be written in RAG_MODEL_CACHE, or {_CURE}."
        ) from error
    return place / _XML


def _is_sound(place: Path) -> bool:
    try:
        note = json.loads((place / _NOTE).read_text(encoding="utf-8"))
        return bool(note == _hashes(place))
    except (OSError, ValueError):
        return False


def _hashes(place: Path) -> dict[str, str]:
    return {name: file_hash(place / name) for name in (_XML, _BIN)}


def _convert_into(place: Path, folder: Path, name: str) -> None:
    # A killed conversion leaves its unfinished folder; under the lock, whatever is there is left over.
    for left_over in place.parent.glob(f"{place.name}-*"):
        shutil.rmtree(left_over, ignore_errors=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{place.name}-", dir=place.parent))
    try:
        _run_conversion(folder, unfinished / _XML, name)
        (unfinished / _NOTE).write_text(json.dumps(_hashes(unfinished)), encoding="utf-8")
        for file in unfinished.iterdir():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
        shutil.rmtree(place, ignore_errors=True)
        unfinished.rename(place)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _run_conversion(folder: Path, xml: Path, name: str) -> None:
    # In a process of its own: PyTorch and the second copy of the weights are gone when it ends.
    try:
        result = _python_module("rag_assets.embedding.openvino_conversion", str(folder), str(xml))
    except subprocess.TimeoutExpired:
        raise _not_converted(name, f"it took longer than {_TIMEOUT_SECONDS} s.") from None
    if result.returncode == 0:
        return
    if result.returncode < 0:
        raise _not_converted(name, f"{signal.Signals(-result.returncode).name} ended it (out of memory?).")
    raise _not_converted(name, (result.stderr.strip().splitlines() or [f"exit code {result.returncode}."])[-1])


def _not_converted(name: str, reason: str) -> RagAssetsError:
    return RagAssetsError(f"The model {name!r} can't be converted for OpenVINO: {reason} To go on, {_CURE}.")


def _python_module(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    package_root = str(Path(__file__).parents[2])
    path = os.pathsep.join([package_root, *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env={**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
        timeout=_TIMEOUT_SECONDS,
    )
