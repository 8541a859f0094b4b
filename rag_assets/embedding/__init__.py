"""Embedding backends behind one protocol (``rag_assets.models.Embedder``)."""

from rag_assets.embedding.sentence_transformers import SentenceTransformersEmbedder
from rag_assets.models import Embedder
from rag_assets.settings import EmbedderSettings

__all__ = ["build_embedder"]


def build_embedder(settings: EmbedderSettings) -> Embedder:
    """The embedder the settings name. Cheap: the model itself loads on first use.

    Raises:
        ConfigurationError: the model can't be found; says where it was looked for and how to get it.
    """
    return SentenceTransformersEmbedder(settings)
