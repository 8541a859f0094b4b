"""Small model folders with random weights: real files of every kind, and none of the bundled model's size."""

import json
import shutil
from pathlib import Path
from typing import Any

from rag_assets.embedding.model_files import model_folder

BUNDLED = "all-MiniLM-L6-v2"
MODULES = ("Transformer", "Pooling", "Normalize")


def make_model(folder: Path, encoder: str = "bert", pooling: str = "mean", **files: Any) -> Path:
    """A sentence-transformers folder around a random encoder of 2 layers × 64, with the bundled model's tokenizer.

    ``files`` are further JSON files by stem: ``config_sentence_transformers={"prompts": …}``.
    """
    import torch
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(0)
    sizes = {"vocab_size": 30522, "max_position_embeddings": 130, "pad_token_id": 0}
    if encoder == "distilbert":
        sizes |= {"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128}
    else:
        sizes |= {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    if encoder == "electra":
        sizes["embedding_size"] = 64
    AutoModel.from_config(AutoConfig.for_model(encoder, **sizes)).save_pretrained(folder)
    write_pipeline(folder, pooling=pooling)
    for stem, value in files.items():
        (folder / f"{stem}.json").write_text(json.dumps(value))
    return folder


def write_pipeline(folder: Path, *, pooling: str = "mean", modules: tuple[str, ...] = MODULES) -> None:
    """Tokenizer, ``modules.json`` and the rest of a folder, but neither the encoder's configuration nor weights."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(model_folder(BUNDLED) / name, folder / name)
    listed = [
        {"idx": place, "name": str(place), "path": f"{place}_{kind}" if place else "", "type": _type_of(kind)}
        for place, kind in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 128}))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    dimension = {"word_embedding_dimension": 64}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({**dimension, "pooling_mode": pooling}))


def _type_of(kind: str) -> str:
    return f"sentence_transformers.models.{kind}" if kind in (*MODULES, "Dense") else kind
