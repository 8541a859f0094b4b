"""Of which texts the bundled English model can read how much, by its real tokenizer."""

import pytest

from rag_assets.embedding import build_embedder
from rag_assets.embedding.local_model import LocalModelEmbedder
from rag_assets.retrieval.reading import as_read
from rag_assets.settings import EmbedderSettings, RetrievalSettings
from rag_assets_tests.fakes import FakeEmbedder


@pytest.fixture(scope="module")
def model() -> LocalModelEmbedder:
    built = build_embedder(EmbedderSettings())
    assert isinstance(built, LocalModelEmbedder)
    return built


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("How long does a refund take, and who pays it?", 1.0, 1.0),
        ("Wie lange dauert eine Rückerstattung?", 1.0, 1.0),
        ("Is a b c?", 1.0, 1.0),  # words of one letter are words
        ("退款需要多长时间?", 0.0, 0.6),
        ("Сколько времени занимает возврат денег?", 0.0, 0.2),
        ("धनवापसी में कितना समय लगता है?", 0.0, 0.5),
        ("كم من الوقت يستغرق استرداد الأموال؟", 0.0, 0.2),
        ("12 345, 67 %!", 1.0, 1.0),
        ("", 1.0, 1.0),
    ],
)
def test_share_of_the_words_that_the_vocabulary_has(
    model: LocalModelEmbedder, text: str, least: float, most: float
) -> None:
    assert least <= model.coverage(text) <= most


def test_half_a_question_in_a_foreign_script_is_half_read(model: LocalModelEmbedder) -> None:
    assert 0.4 <= model.coverage("refund возврат money денег") <= 0.6


class HalfReading(FakeEmbedder):
    def coverage(self, text: str) -> float:
        return 0.5


def test_weights_of_the_embedder_shrink_with_what_it_can_read() -> None:
    settings = RetrievalSettings(dense_weight=0.6, rerank="late-interaction", rerank_weight=0.4)
    read = as_read(settings, HalfReading(), "?")
    assert (read.dense_weight, read.rerank_weight) == (0.3, 0.2)
    assert read.rerank_depth == settings.rerank_depth


def test_other_rerankers_and_other_modes_are_left_alone() -> None:
    own = RetrievalSettings(rerank="cross-encoder:x")
    assert as_read(own, HalfReading(), "?").rerank_weight == own.rerank_weight
    dense = RetrievalSettings(mode="dense", rerank="late-interaction")
    assert as_read(dense, HalfReading(), "?") is dense
    assert as_read(own, FakeEmbedder(), "?") is own
