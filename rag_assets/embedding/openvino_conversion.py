"""Converts a model folder for OpenVINO, as a process: ``python -m rag_assets.embedding.openvino_conversion FOLDER XML``.

What it wrote is compared with what sentence-transformers computes before the process ends well; the last line on
standard error is the reason when it doesn't.
"""

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from rag_assets.embedding.openvino import OpenVinoEmbedder
from rag_assets.embedding.openvino_runtime import HiddenStates, import_openvino
from rag_assets.settings import EmbedderSettings

SAMPLES = (
    "The seal of a hydraulic pump must be replaced every 2,000 operating hours.",
    "Überprüfen Sie die Verbindung – naïve Größen, 50 % der Fälle.",
    "x",
    "Section 4.2: what the index holds, and why a document that was deleted must not answer. " * 60,
)
"""Short, accented, of one token, and longer than models read."""

MIN_COSINE = 0.9999
"""Both sides compute in float32: measured 1.0000 for every supported encoder."""


def convert(folder: Path, xml: Path) -> None:
    """Write ``xml`` and its ``.bin``: inputs input_ids and attention_mask, int64 (n, length); output last hidden states.

    Raises:
        RuntimeError: the conversion failed, or its vectors are not those of sentence-transformers.
    """
    openvino = import_openvino()
    import torch
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.float32}).eval()
    reference = np.asarray(model.encode_document(list(SAMPLES), normalize_embeddings=True, show_progress_bar=False))
    ids = torch.ones((2, 16), dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, 8:] = 0
    any_shape = (openvino.PartialShape([-1, -1]), openvino.Type.i64)
    with torch.no_grad():
        converted = openvino.convert_model(
            _last_hidden_state_of(model[0].model),
            example_input={"input_ids": ids, "attention_mask": mask},
            input=[("input_ids", *any_shape), ("attention_mask", *any_shape)],
        )
    # Weights stay float32: halving them would also round what is computed in float32.
    openvino.save_model(converted, str(xml), compress_to_fp16=False)
    embedder = OpenVinoEmbedder(EmbedderSettings(model=str(folder)))
    vectors = embedder.encode_with(HiddenStates(xml, "float32", keep=False), SAMPLES, "document")
    cosine = float(((vectors * reference).sum(axis=1) / np.linalg.norm(vectors, axis=1)).min())
    if not cosine >= MIN_COSINE:
        raise RuntimeError(f"its vectors differ from those of sentence-transformers (cosine {cosine:.4f}).")


def _last_hidden_state_of(encoder: Any) -> Any:
    import torch

    class LastHiddenState(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    return LastHiddenState().eval()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    try:
        convert(Path(sys.argv[1]), Path(sys.argv[2]))
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {' '.join(str(error).split())[:500]}")
