"""The MLX backend, on this processor: a small model of each kind gives the vectors that sentence-transformers gives."""

import importlib.util
import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag_assets.embedding import build_embedder
from rag_assets.embedding.hardware import texts_at_once
from rag_assets.embedding.mlx import alike
from rag_assets.errors import ConfigurationError
from rag_assets.settings import EmbedderSettings
from rag_assets_tests.unit.embedding.conftest import PROMPTS
from rag_assets_tests.unit.embedding.models import make_model, write_pipeline

TEXTS = ["The seal of the pump is worn.", "x", "", "Größe – naïve", "What the index holds. " * 100]
installed = pytest.mark.skipif(
    importlib.util.find_spec("mlx_embeddings") is None,
    reason="mlx-embeddings is not installed here (extra `mlx`: Apple Silicon, and Linux on x86-64)",
)


def with_backend(backend: str, folder: Path, **values: Any) -> Any:
    settings = EmbedderSettings.model_validate({"backend": backend, "model": str(folder), "dtype": "float32", **values})
    return build_embedder(settings)


@installed
@pytest.mark.parametrize(("encoder", "pooling"), [("bert", "mean"), ("xlm-roberta", "max"), ("bert", "cls")])
def test_its_vectors_are_those_of_sentence_transformers(tmp_path: Path, encoder: str, pooling: str) -> None:
    folder = make_model(tmp_path / "model", encoder, pooling, config_sentence_transformers={"prompts": PROMPTS})
    reference, mlx = (with_backend(backend, folder, batch_size=2) for backend in ("sentence-transformers", "mlx"))
    for ask in ("embed_documents", "embed_queries"):
        cosines = np.sum(getattr(mlx, ask)(TEXTS) * getattr(reference, ask)(TEXTS), axis=1)
        assert cosines.min() > 0.99999
    for mine, theirs in zip(mlx.embed_query_tokens(TEXTS), reference.embed_query_tokens(TEXTS), strict=True):
        assert np.sum(mine * theirs, axis=1).min() > 0.9999
    half = with_backend("mlx", folder, dtype="float16")
    assert np.sum(half.embed_documents(TEXTS) * reference.embed_documents(TEXTS), axis=1).min() > 0.999
    assert len({mlx.fingerprint, half.fingerprint, reference.fingerprint}) == 3


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlx_embeddings", None)  # as Python says "there is none"
    with pytest.raises(ConfigurationError, match=r"mlx-embeddings is not installed.*pip install 'rag-assets\[mlx\]'"):
        build_embedder(EmbedderSettings(backend="mlx"))


@installed
@pytest.mark.parametrize(("model_type", "weights", "reason"), [("mpnet", True, "'mpnet', not one of bert, xlm-roberta"),
                                                              ("bert", False, "no weights")])  # fmt: skip
def test_a_model_it_can_not_run_is_refused(tmp_path: Path, model_type: str, weights: bool, reason: str) -> None:
    write_pipeline(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type, "hidden_size": 64}))
    if weights:
        (tmp_path / "model.safetensors").touch()
    with pytest.raises(ConfigurationError, match=rf"'mlx' can't run the model.*{reason}.*sentence-transformers"):
        with_backend("mlx", tmp_path)


def test_the_batch_is_what_a_share_of_the_memory_holds() -> None:
    config = {"num_attention_heads": 12, "intermediate_size": 1536}
    sizes = [texts_at_once(int(gigabytes * 1e9), 256, config, most=64) for gigabytes in (0.001, 0.05, 0.1, 0.4, 6)]
    assert sizes == sorted(sizes)
    assert sizes[0] == 1
    assert 1 < sizes[1] < sizes[2] < sizes[-1] == 64
    assert texts_at_once(10**8, 512, config, most=64) < sizes[2]


def test_texts_of_like_length_go_together() -> None:
    lengths = [3, 200, 9, 90, 4, 256, 5, 5, 5]
    groups = list(alike(lengths, 4))
    assert sorted(row for group in groups for row in group) == list(range(len(lengths)))
    assert max(map(len, groups)) == 4
    assert all(max(lengths[row] for row in group) <= 2 * max(8, min(lengths[row] for row in group)) for group in groups)
    assert all(lengths[before[-1]] <= lengths[after[0]] for before, after in pairwise(groups))
