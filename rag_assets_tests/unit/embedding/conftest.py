"""One small model for the whole session."""

from pathlib import Path

import pytest

from rag_assets_tests.unit.embedding.models import make_model

PROMPTS = {"query": "query: what about ", "document": "a passage on "}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small convertible model with prompts, max pooling and random weights."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    return make_model(folder, "xlm-roberta", "max", config_sentence_transformers={"prompts": PROMPTS})
