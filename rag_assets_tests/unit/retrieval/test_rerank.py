"""Rerankers: MaxSim by hand, budgets, and names that mean none."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from rag_assets.errors import ConfigurationError
from rag_assets.models import Vectors
from rag_assets.retrieval.rerank import LateInteraction, build_reranker, rerank
from rag_assets_tests.fakes import FakeEmbedder


class Tokens:
    """Words as tokens: three of them, each its own direction."""

    WORDS = ("red", "green", "blue")

    def _vectors(self, text: str) -> Vectors:
        return np.asarray([[float(word == known) for known in self.WORDS] for word in text.split()], dtype=np.float32)

    def embed_document_tokens(self, texts: Sequence[str]) -> list[Vectors]:
        return [self._vectors(text) for text in texts]

    def embed_query_tokens(self, texts: Sequence[str]) -> list[Vectors]:
        return [self._vectors(text) for text in texts]


class Slow:
    """Scores one passage at a time and counts them."""

    def __init__(self) -> None:
        self.scored = 0

    def score(self, question: str, passages: Sequence[str]) -> Iterator[Sequence[float]]:
        for passage in passages:
            self.scored += 1
            yield [float(len(passage))]


def test_late_interaction_is_the_mean_of_the_best_cosine_of_each_question_token() -> None:
    passages = ["red green", "red", "blue blue"] * 7  # more than a batch
    found = [score for batch in LateInteraction(Tokens()).score("red green", passages) for score in batch]
    assert found == pytest.approx([1.0, 0.5, 0.0] * 7)


def test_within_its_budget_every_passage_is_scored() -> None:
    assert rerank(Slow(), "q", ["a", "bbb", "cc"], budget_seconds=60).scores == (1.0, 3.0, 2.0)


def test_when_the_budget_is_spent_nothing_is_half_ranked() -> None:
    slow = Slow()
    assert rerank(slow, "q", ["a"] * 1000, budget_seconds=0).scores is None
    assert slow.scored < 1000


@pytest.mark.parametrize("name", ["none such", "cross-encoder:", "litellm:", ""])
def test_an_unknown_reranker_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(ConfigurationError, match="late-interaction"):
        build_reranker(name, FakeEmbedder())


def test_an_embedder_without_token_vectors_can_not_rerank_by_them() -> None:
    with pytest.raises(ConfigurationError, match="gives no token vectors"):
        build_reranker("late-interaction", FakeEmbedder())


def test_a_cross_encoder_that_is_nowhere_names_the_way_out() -> None:
    with pytest.raises(ConfigurationError, match="late-interaction"):
        build_reranker("cross-encoder:/no/such/folder", FakeEmbedder())
