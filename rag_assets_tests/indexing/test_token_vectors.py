"""Token vectors that an index keeps: for every text once, gone with it, and search ranks by them as by computed ones."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from rag_assets.errors import ConfigurationError
from rag_assets.indexing import forgetting, garbage
from rag_assets.models import Vectors
from rag_assets.retrieval.search import search
from rag_assets.settings import EmbedderSettings, RetrievalSettings
from rag_assets_tests.driving import OpenIndex, WarmRuntime, corpus, live, query, run, write
from rag_assets_tests.fakes import FakeEmbedder

KEPT = {"index": {"token_vectors": True}}
RERANKED = RetrievalSettings(rerank="late-interaction", rerank_weight=1.0, rerank_seconds=60)


class TokenFake(FakeEmbedder):
    """Words as tokens."""

    def __init__(self) -> None:
        super().__init__(version="all-MiniLM-L6-v2", dimension=64)
        self.tokenised: list[str] = []

    def embed_document_tokens(self, texts: Sequence[str]) -> list[Vectors]:
        self.tokenised += texts
        return [self._vectors(text.split()) for text in texts]

    def embed_query_tokens(self, texts: Sequence[str]) -> list[Vectors]:
        return [self._vectors(text.split()) for text in texts]


def with_tokens(runtime: WarmRuntime) -> TokenFake:
    fake = TokenFake()
    runtime.fakes[EmbedderSettings().model] = fake
    return fake


def ranking(runtime: WarmRuntime) -> list[tuple[str, float]]:
    found = search(runtime, "paragraph of document 5 topic 36", k=8, retrieval=RERANKED)
    assert found.reranked
    return [(hit.chunk_id, hit.scores["rerank"] or 0.0) for hit in found.hits]


def test_a_search_ranks_by_kept_token_vectors_as_by_computed_ones(open_index: OpenIndex, source: Path) -> None:
    corpus(source, 12)
    computing = open_index()
    asked = with_tokens(computing)
    run(computing)
    computed = ranking(computing)
    assert asked.tokenised
    keeping = open_index(**KEPT)
    fake = with_tokens(keeping)
    report = run(keeping)
    assert report.generation["promoted"]
    assert report.embeddings == {"computed": 0, "reused": report.chunks["total"]}
    assert len(fake.tokenised) == report.chunks["total"]
    kept = ranking(keeping)
    assert len(fake.tokenised) == report.chunks["total"]
    assert kept[0][0] == computed[0][0]
    assert dict(kept).keys() & dict(computed).keys()
    for item, score in kept:
        assert score == pytest.approx(dict(computed).get(item, score), abs=0.03)


def test_only_new_texts_get_token_vectors_and_a_deleted_one_is_computed(open_index: OpenIndex, source: Path) -> None:
    corpus(source, 6)
    runtime = open_index(**KEPT)
    fake = with_tokens(runtime)
    run(runtime)
    fake.tokenised.clear()
    write(source, "new.md", "# New\n\nOne paragraph more.\n")
    run(runtime)
    assert len(fake.tokenised) == 1
    query(runtime, "DELETE FROM token_vectors WHERE text_hash = (SELECT min(text_hash) FROM token_vectors)")
    fake.tokenised.clear()
    assert ranking(runtime)
    assert len(fake.tokenised) == 1


def test_they_go_with_their_text(open_index: OpenIndex, source: Path) -> None:
    corpus(source, 6)
    runtime = open_index(**KEPT)
    with_tokens(runtime)
    run(runtime)
    (before,) = query(runtime, "SELECT count(*) FROM token_vectors")[0]
    first = sorted(path.name for path in source.iterdir())[0]
    forgetting.forget(runtime, "default", first)
    (after,) = query(runtime, "SELECT count(*) FROM token_vectors")[0]
    assert after < before
    for path in source.iterdir():
        path.unlink()
    run(runtime, allow_mass_delete=True)
    garbage.collect_garbage(runtime, "default")
    assert query(runtime, "SELECT count(*) FROM token_vectors")[0] == (0,)
    assert live(runtime)


def test_an_embedder_without_token_vectors_is_refused(open_index: OpenIndex, source: Path) -> None:
    corpus(source, 2)
    with pytest.raises(ConfigurationError, match=r"index\.token_vectors = false"):
        run(open_index(**KEPT))
