"""What the backends share that rebuild a sentence-transformers pipeline from its folder: encoder, pooling, normalisation."""

from functools import cached_property

from rag_assets.embedding import model_files
from rag_assets.embedding.local_model import LocalModelEmbedder
from rag_assets.embedding.pipeline import Pipeline
from rag_assets.fingerprint import fingerprint


class RebuiltEmbedder(LocalModelEmbedder):
    """A local model whose pipeline is known step by step."""

    _pipeline: Pipeline

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the backend family, the number type, how vectors are made of tokens, and the model's files."""
        return fingerprint(
            {
                "family": self.backend,
                "dtype": self._dtype,
                "files": self._files,
                "pooling": self._pipeline.pooling,
                "max_tokens": self.max_tokens,
                "normalise": True,
            }
        )

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self._pipeline.dimension

    @cached_property
    def _files(self) -> str:
        return model_files.files_hash(self._folder)
