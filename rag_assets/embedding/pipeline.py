"""What a sentence-transformers model folder does to a text, read from its JSON files alone.

Only the pipelines that backends other than sentence-transformers can rebuild exactly are recognised: a BERT-like
encoder, one pooling, and optionally normalisation. Everything else is refused with the reason.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rag_assets.embedding.model_files import read_json, read_json_list
from rag_assets.models import Vectors

Pooling = Literal["mean", "cls", "max"]

ENCODERS = frozenset({"bert", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta", "camembert"})
"""``model_type`` of the encoders whose conversion was tried against sentence-transformers."""

_LEGACY_POOLING = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""How sentence-transformers before 5.4 wrote the pooling, and what it is called since."""


class UnsupportedPipeline(Exception):
    """The model can't be rebuilt outside sentence-transformers; the message is the bare reason ("it is an adapter")."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A text's way to its vector: prompt, tokens, last hidden states, pooling. Normalising always follows."""

    pooling: Pooling
    dimension: int
    """Length of a hidden state, and of a vector."""
    query_prompt: str = ""
    """Put before a query."""
    document_prompt: str = ""
    """Put before a document."""


def read_pipeline(folder: Path) -> Pipeline:
    """The pipeline of a model folder.

    Raises:
        UnsupportedPipeline: it is not one we can rebuild.
    """
    modules = [str(module.get("type", "")) for module in read_json_list(folder / "modules.json")]
    kinds = [module.rpartition(".")[2] for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise UnsupportedPipeline(f"its modules.json lists {' + '.join(kinds) or 'nothing'}")
    if not all(module.startswith("sentence_transformers.") for module in modules):
        raise UnsupportedPipeline("its modules.json names code of its own")
    places = [str(module.get("path", "")) for module in read_json_list(folder / "modules.json")]
    encoder = folder / places[0]
    if encoder.resolve() != folder.resolve():
        raise UnsupportedPipeline(f"its transformer is in the subfolder {places[0]}")
    config = _checked_encoder(folder)
    prompts = read_json(folder / "config_sentence_transformers.json").get("prompts") or {}
    return Pipeline(
        pooling=_pooling(read_json(folder / places[1] / "config.json")),
        dimension=int(config.get("hidden_size") or config["dim"]),  # DistilBERT calls it dim
        query_prompt=prompts.get("query") or "",
        document_prompt=prompts.get("document") or "",
    )


def _checked_encoder(folder: Path) -> Mapping[str, Any]:
    config = read_json(folder / "config.json")
    kind = config.get("model_type")
    if kind not in ENCODERS:
        raise UnsupportedPipeline(f"its encoder is of type {kind!r}, not one of {', '.join(sorted(ENCODERS))}")
    for key in ("auto_map", "quantization_config", "is_decoder"):
        if config.get(key):
            raise UnsupportedPipeline(f"its config.json sets {key}")
    if (folder / "adapter_config.json").is_file():
        raise UnsupportedPipeline("it is an adapter")
    if not (folder / "tokenizer.json").is_file():
        raise UnsupportedPipeline("it has no tokenizer.json")
    transformer = read_json(folder / "sentence_bert_config.json")
    if transformer.get("do_lower_case"):
        raise UnsupportedPipeline("its sentence_bert_config.json lower-cases texts outside the tokenizer")
    if transformer.get("transformer_task", "feature-extraction") != "feature-extraction":
        raise UnsupportedPipeline(f"its transformer's task is {transformer['transformer_task']}")
    family = read_json(folder / "config_sentence_transformers.json").get("model_type", "SentenceTransformer")
    if family != "SentenceTransformer":
        raise UnsupportedPipeline(f"it is a {family}")
    return config


def _pooling(config: Mapping[str, Any]) -> Pooling:
    mode = config.get("pooling_mode")
    modes = [mode] if isinstance(mode, str) else list(mode or [])
    modes += [name for key, name in _LEGACY_POOLING.items() if config.get(key)]
    if modes not in (["mean"], ["cls"], ["max"]):
        raise UnsupportedPipeline(f"its pooling is {' + '.join(modes) or 'not given'}")
    if not config.get("include_prompt", True):
        raise UnsupportedPipeline("its pooling leaves the prompt out")
    pooling: Pooling = modes[0]
    return pooling


def pool(states: npt.NDArray[np.float32], mask: npt.NDArray[np.int64], pooling: Pooling) -> Vectors:
    """One vector per text, not normalised: (n, length, dimension) states under a 0/1 (n, length) mask -> (n, dimension).

    Padding is on the right, so the first state is that of the first token (``[CLS]``).
    """
    if pooling == "cls":
        return states[:, 0].copy()
    if pooling == "max":
        return np.asarray(np.where(mask[:, :, None] > 0, states, np.float32(-np.inf)).max(axis=1), dtype=np.float32)
    weights = mask.astype(np.float32)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.asarray(np.matmul(weights[:, None, :], states)[:, 0], dtype=np.float32)
