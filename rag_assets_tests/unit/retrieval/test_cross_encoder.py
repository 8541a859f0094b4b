"""A real CrossEncoder from a small folder with random weights, and what is said where none can be had."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rag_assets.embedding.model_files import model_folder
from rag_assets.errors import ConfigurationError
from rag_assets.retrieval.rerank import BATCH, build_reranker, rerank
from rag_assets_tests.fakes import FakeEmbedder

QUESTION = "how do fish swim"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BERT of 2 layers × 64 with one output, and the bundled model's tokenizer."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    made = tmp_path_factory.mktemp("cross-encoder")
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    config = BertConfig(vocab_size=30522, max_position_embeddings=130, num_labels=1, pad_token_id=0, **sizes)
    BertForSequenceClassification(config).save_pretrained(made)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(model_folder("all-MiniLM-L6-v2") / name, made / name)
    return made


def test_a_local_folder_scores_every_passage_as_the_model_does(folder: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    passages = [f"passage {number} {'about fish ' * (number % 5)}" for number in range(2 * BATCH + 3)]
    found = rerank(build_reranker(f"cross-encoder:{folder}", FakeEmbedder()), QUESTION, passages, budget_seconds=120)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        pairs = tokenizer([QUESTION] * len(passages), passages, padding=True, return_tensors="pt")
        logits = model.eval()(**pairs).logits[:, 0].double()
    # sentence-transformers gives a model of one output as a probability.
    assert found.scores == pytest.approx(torch.sigmoid(logits).tolist(), abs=1e-4)
    assert len(set(found.scores or ())) > 5


def test_a_passage_longer_than_the_model_reads_is_scored(folder: Path) -> None:
    reranker = build_reranker(f"cross-encoder:{folder}", FakeEmbedder())
    found = rerank(reranker, QUESTION, ["fish " * 5000, "", "🐟"], budget_seconds=120)
    assert found.scores is not None
    assert len(found.scores) == 3


def test_a_model_is_loaded_once_and_not_for_every_question(folder: Path) -> None:
    first, second = (build_reranker(f"cross-encoder:{folder}", FakeEmbedder()) for _ in range(2))
    assert first is second


def test_a_spent_budget_leaves_the_order(folder: Path) -> None:
    reranker = build_reranker(f"cross-encoder:{folder}", FakeEmbedder())
    assert rerank(reranker, QUESTION, ["fish"] * 100, budget_seconds=0).scores is None


def test_a_folder_that_holds_no_cross_encoder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigurationError, match=r"can't be loaded: .*Name a local folder"):
        build_reranker(f"cross-encoder:{tmp_path}", FakeEmbedder())


def test_a_model_for_several_classes_is_refused(folder: Path, tmp_path: Path) -> None:
    """Its scores would be taken for those of other passages."""
    from transformers import BertConfig, BertForSequenceClassification

    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    sizes = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 128}
    BertForSequenceClassification(BertConfig(num_labels=3, **sizes)).save_pretrained(tmp_path)
    with pytest.raises(ConfigurationError, match="3 classes"):
        build_reranker(f"cross-encoder:{tmp_path}", FakeEmbedder())


SCRIPT = """
from rag_assets.errors import ConfigurationError
from rag_assets.retrieval.rerank import build_reranker
try:
    build_reranker("cross-encoder:cross-encoder/ms-marco-MiniLM-L-6-v2", None)
except ConfigurationError as error:
    print(error)
"""


def test_a_hub_that_can_not_be_reached_is_an_error_that_names_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    # The discard port of the loopback interface: nothing listens there.
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=250, check=True)
    assert "'cross-encoder/ms-marco-MiniLM-L-6-v2' can't be loaded" in done.stdout
    assert "the hub does not give it" in done.stdout
    assert "late-interaction" in done.stdout
