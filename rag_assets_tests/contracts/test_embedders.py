"""What every embedding backend promises, whatever it computes with."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag_assets.chunking import STRATEGIES, chunk_document, chunker_fingerprint
from rag_assets.embedding import build_embedder
from rag_assets.embedding.canaries import Reference, canaries, compare
from rag_assets.embedding.model_files import model_folder
from rag_assets.embedding.tokenizing import FolderTokenizer
from rag_assets.models import Element, Embedder, ParsedDocument, TokenEmbedder
from rag_assets.settings import ChunkingSettings, EmbedderSettings
from rag_assets_tests.contracts.embedders import BACKENDS, REFERENCE, SLOW

SAMPLE = Path(__file__).parents[2] / "evals" / "sample" / "documents"

TEXTS = ["The seal of the pump is worn.", "x", "", "Größe – naïve", "What the index holds. " * 300]


@pytest.fixture(scope="module", params=[pytest.param(name, marks=SLOW.get(name, ())) for name in BACKENDS])
def embedder(request: pytest.FixtureRequest, named_model_cache: Path) -> Iterator[Embedder]:
    with BACKENDS[request.param]() as found:
        yield found


@pytest.fixture(scope="module")
def reference(named_model_cache: Path) -> Embedder:
    return build_embedder(REFERENCE)


def test_vectors_are_those_of_the_reference(embedder: Embedder, reference: Embedder) -> None:
    texts = [*TEXTS, *canaries(FolderTokenizer("x", model_folder("all-MiniLM-L6-v2")), 256)]

    agreement = compare(Reference(tuple(texts), reference.embed_documents(texts)), embedder.embed_documents(texts))

    assert agreement.holds, agreement


def test_vectors_are_float32_of_unit_length_one_per_text(embedder: Embedder) -> None:
    for vectors in (embedder.embed_documents(TEXTS), embedder.embed_queries(TEXTS)):
        assert vectors.shape == (len(TEXTS), embedder.dimension)
        assert vectors.dtype == np.float32
        assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-6


def test_no_texts_give_no_vectors(embedder: Embedder) -> None:
    assert embedder.embed_documents([]).shape == (0, embedder.dimension)
    assert embedder.embed_queries([]).shape == (0, embedder.dimension)


def test_a_text_gets_its_vector_whatever_else_is_in_the_list(embedder: Embedder) -> None:
    together = embedder.embed_documents(TEXTS)
    alone = np.concatenate([embedder.embed_documents([text]) for text in reversed(TEXTS)])[::-1]

    assert np.abs(together - alone).max() < 1e-2


def test_near_texts_are_nearer_than_others(embedder: Embedder) -> None:
    question = embedder.embed_queries(["Is the pump's seal worn out?"])[0]

    cosines = embedder.embed_documents(["The seal of the pump is worn.", "Paris is the capital of France."]) @ question

    assert cosines[0] > 0.7 > 0.3 > cosines[1]


def test_texts_are_counted_whole_and_read_up_to_the_limit(embedder: Embedder) -> None:
    assert embedder.count_tokens(["x", ""]) == [3, 2]
    long = "word " * 1000
    assert embedder.count_tokens([long]) == [1002]
    vectors = embedder.embed_documents([long, long + "another ending"])
    assert np.abs(vectors[0] - vectors[1]).max() < 1e-2


def test_a_second_embedder_of_the_same_settings_has_the_same_fingerprints(embedder: Embedder) -> None:
    again = build_embedder(EmbedderSettings.model_validate(embedder.resolved))

    assert (again.fingerprint, again.tokenizer_fingerprint) == (embedder.fingerprint, embedder.tokenizer_fingerprint)
    assert (again.name, again.max_tokens) == (embedder.name, 256)
    assert again.resolved == embedder.resolved


def test_chunks_are_cut_alike_whichever_backend_embeds_them(embedder: Embedder, reference: Embedder) -> None:
    limits = ChunkingSettings()
    assert chunker_fingerprint(limits, embedder) == chunker_fingerprint(limits, reference)


def test_token_vectors_are_those_of_the_reference_where_there_are_any(embedder: Embedder, reference: Embedder) -> None:
    if not isinstance(embedder, TokenEmbedder):
        pytest.skip("a server gives no vectors of single tokens")
    assert isinstance(reference, TokenEmbedder)
    for mine, theirs in zip(embedder.embed_document_tokens(TEXTS), reference.embed_document_tokens(TEXTS), strict=True):
        assert mine.shape == theirs.shape
        assert np.sum(mine * theirs, axis=1).min() > 0.99


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_chunk_of_the_sample_is_longer_than_the_model_reads(embedder: Embedder, strategy: Any) -> None:
    """Counted anew with the model's own tokenizer, and against what it really reads: another ending is another vector."""
    if strategy == "semantic" and embedder.resolved["backend"] == "mlx":
        pytest.skip("on a processor MLX takes minutes for the vectors that `semantic` cuts by")
    elements = []
    for path in sorted(SAMPLE.rglob("*.md"))[:12]:
        for number, part in enumerate(path.read_text(encoding="utf-8").split("\n\n")):
            if part.strip():
                kind = "Table" if part.startswith("|") else "Title" if part.startswith("#") else "NarrativeText"
                elements.append(Element(kind, part.strip(), (path.stem,) if number else ()))
    document = ParsedDocument("Sample", tuple(elements))
    limits = ChunkingSettings(strategy=strategy, max_tokens=embedder.max_tokens)
    chunks = chunk_document(document, limits, embedder)
    assert len(chunks) > 3
    counted = embedder.count_tokens([chunk.embedded_text for chunk in chunks])
    assert counted == [chunk.tokens for chunk in chunks]
    assert max(counted) <= embedder.max_tokens
    longest = max(chunks, key=lambda chunk: chunk.tokens)
    if longest.tokens < embedder.max_tokens:
        vectors = embedder.embed_documents([longest.embedded_text, f"{longest.embedded_text} zebra"])
        assert np.abs(vectors[0] - vectors[1]).max() > 1e-3
