"""One folder of converted models, and one small model, for the whole session: a conversion costs 8 s."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rag_assets_tests.unit.embedding.models import make_model

PROMPTS = {"query": "query: what about ", "document": "a passage on "}


@pytest.fixture(scope="session")
def model_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """``RAG_MODEL_CACHE`` of this process and its children; the contract tests name the same folder."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.getbasetemp() / "converted-models"
        patch.setitem(os.environ, "RAG_MODEL_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small convertible model with prompts, max pooling and random weights."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    return make_model(folder, "xlm-roberta", "max", config_sentence_transformers={"prompts": PROMPTS})
