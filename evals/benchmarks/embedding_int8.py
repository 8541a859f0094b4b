"""What eight-bit integers would gain and cost as the default on a processor: texts a second, cosine, nDCG@10 of every development set.

    pip install nncf==3.4.0
    python evals/benchmarks/embedding_int8.py --data ../shared/data [--sets scifact cranfield]

The converted model is quantised after training, weights and activations, by NNCF with its settings for transformers (SmoothQuant
included) over passages of ``evals/sample``, and takes the default's place in a model cache of its own. Then
``embedding_quality.py`` compares it with the float32 reference. Allowed: 0.5 points (0.005) below it on any set.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rag_assets.embedding.model_cache import cache_folder, file_hash
from rag_assets.embedding.model_files import files_hash, model_folder
from rag_assets.embedding.openvino import OpenVinoEmbedder
from rag_assets.embedding.openvino_cache import converted_model
from rag_assets.embedding.openvino_runtime import HiddenStates, import_openvino
from rag_assets.settings import EmbedderSettings

HERE = Path(__file__).parent
SAMPLE = HERE.parent / "sample"
PASSAGE_CHARACTERS = 900
CALIBRATED_WITH = 300
MEASURED = 240
SEED = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of development sets")
    parser.add_argument("--sets", nargs="*", default=[])
    options = parser.parse_args()
    embedder = OpenVinoEmbedder(EmbedderSettings())
    folder = model_folder(embedder.name)
    original = converted_model(folder, files_hash(folder), embedder.name)
    texts = passages()
    with tempfile.TemporaryDirectory() as temporary:
        # The place of the default's conversion, in another cache.
        place = Path(temporary) / original.parent.relative_to(cache_folder())
        shutil.copytree(original.parent, place)
        quantise(original, place / original.name, embedder, texts[:CALIBRATED_WITH])
        note = {path.name: file_hash(path) for path in place.iterdir() if path.name != "files.json"}
        (place / "files.json").write_text(json.dumps(note), encoding="utf-8")
        compare(embedder, original, place / original.name, texts[-MEASURED:])
        command = [sys.executable, str(HERE / "embedding_quality.py"), "--data", str(options.data.resolve())]
        command += ["--sets", *options.sets] if options.sets else []
        subprocess.run(command, check=True, env={**os.environ, "RAG_MODEL_CACHE": temporary})


def passages() -> list[str]:
    """Passages of the sample documents, always the same ones in the same order."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(SAMPLE.rglob("*.md"))]
    size = PASSAGE_CHARACTERS
    cut = [text[start : start + size] for text in texts for start in range(0, len(text), size)]
    random.Random(SEED).shuffle(cut)
    return cut


def quantise(source: Path, target: Path, embedder: OpenVinoEmbedder, texts: list[str]) -> None:
    """Write ``target``: weights and activations of ``source`` in eight bits."""
    openvino = import_openvino()
    try:
        import nncf
    except ImportError:
        sys.exit("NNCF is no dependency of rag-assets: pip install nncf==3.4.0")

    def inputs(text: str) -> list[npt.NDArray[np.int64]]:
        encoded = embedder._truncating_tokenizer.encode(text)
        return [np.asarray([encoded.ids], np.int64), np.asarray([encoded.attention_mask], np.int64)]

    quantised = nncf.quantize(
        openvino.Core().read_model(str(source)),
        nncf.Dataset(texts, inputs),
        model_type=nncf.ModelType.TRANSFORMER,
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(texts),
    )
    openvino.save_model(quantised, str(target), compress_to_fp16=False)


def compare(embedder: OpenVinoEmbedder, original: Path, quantised: Path, texts: list[str]) -> None:
    """Print texts a second, the better of two passes in turns, and the cosine to float32."""

    def embedded(model: HiddenStates) -> npt.NDArray[np.float32]:
        vectors = embedder.encode_with(model, texts, "document")
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    reference = embedded(HiddenStates(original, "float32"))
    models: dict[str, Any] = {
        "bfloat16": HiddenStates(original, "bfloat16"),
        "int8": HiddenStates(quantised, "bfloat16"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in models}
    cosines = {}
    for _ in range(2):
        for name, model in models.items():
            began = time.perf_counter()
            cosines[name] = (embedded(model) * reference).sum(axis=1)
            seconds[name].append(time.perf_counter() - began)
    for name, taken in seconds.items():
        found = cosines[name]
        print(f"{name}: {len(texts) / min(taken):.0f} texts/s, cosine {found.mean():.4f}, worst {found.min():.4f}")


if __name__ == "__main__":
    main()
