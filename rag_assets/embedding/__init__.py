"""Embedding backends behind one protocol (``rag_assets.models.Embedder``)."""

from pathlib import Path
from typing import Literal

from rag_assets.embedding import mlx
from rag_assets.embedding.hardware import Machine, this_machine
from rag_assets.embedding.mlx import MlxEmbedder
from rag_assets.embedding.model_files import model_folder
from rag_assets.embedding.openvino import OpenVinoEmbedder
from rag_assets.embedding.pipeline import UnsupportedPipeline, read_pipeline
from rag_assets.embedding.proving import References
from rag_assets.embedding.sentence_transformers import SentenceTransformersEmbedder
from rag_assets.embedding.served import ServerEmbedder
from rag_assets.models import Embedder
from rag_assets.settings import EmbedderSettings

__all__ = ["build_embedder", "chosen_backend"]

Backend = Literal["openvino", "sentence-transformers", "mlx"]

_OPENVINO_PROCESSORS = frozenset({"x86_64", "amd64", "aarch64", "arm64"})


def build_embedder(settings: EmbedderSettings, references: References | None = None) -> Embedder:
    """The embedder the settings name. Cheap: the model itself loads on first use.

    Args:
        settings: Which one.
        references: Where the reference vectors of servers are kept.

    Raises:
        ConfigurationError: the model can't be found (says where it was looked for and how to get it), or the backend
            named can't run it.
    """
    backend = settings.backend
    if backend == "litellm":
        return ServerEmbedder(settings, build_embedder, references)
    if backend == "auto":
        backend = chosen_backend(model_folder(settings.model), this_machine())
    if backend == "mlx":
        return MlxEmbedder(settings)
    return OpenVinoEmbedder(settings) if backend == "openvino" else SentenceTransformersEmbedder(settings)


def chosen_backend(folder: Path, machine: Machine) -> Backend:
    """What ``embedder.backend = "auto"`` means for a model folder on a machine.

    openvino where it is installed, knows the processor and can run the model, unless there is a GPU that PyTorch would
    use instead (NVIDIA, or that of a Mac); mlx on Apple Silicon, where it is installed and can.
    """
    if machine.system == "Darwin" and machine.processor == "arm64" and machine.mlx and mlx.unsupported(folder) is None:
        return "mlx"
    capable = machine.openvino and machine.processor.lower() in _OPENVINO_PROCESSORS
    if not capable or machine.nvidia or machine.system == "Darwin":
        return "sentence-transformers"
    try:
        read_pipeline(folder)
    except UnsupportedPipeline:
        return "sentence-transformers"
    return "openvino"
