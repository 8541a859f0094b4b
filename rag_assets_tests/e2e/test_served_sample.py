"""The sample corpus with its model behind HTTP, end to end; and then without the server, for the vectors are the same model's."""

from pathlib import Path

import numpy as np
import pytest

from rag_assets.documents.parsing import ParserPool
from rag_assets.embedding import build_embedder
from rag_assets.evaluation import store
from rag_assets.retrieval.search import search
from rag_assets.settings import EmbedderSettings, Settings
from rag_assets_tests.driving import live, query, run
from rag_assets_tests.embedding_server import embedding_server
from rag_assets_tests.indexing.test_served_model import PlainRuntime

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SAMPLE = Path(__file__).parents[2] / "evals" / "sample"


@pytest.mark.usefixtures("named_model_cache")
def test_the_sample_is_indexed_judged_and_searched_over_http(
    tmp_path: Path, postgres_url: str, parsers: ParserPool
) -> None:
    model = build_embedder(EmbedderSettings(backend="openvino"))

    def open_(**embedder: object) -> PlainRuntime:
        sample = {"source": SAMPLE / "documents", "questions": SAMPLE / "questions.jsonl"}
        settings = Settings(
            home=tmp_path / "home", postgres_url=postgres_url, collections={"default": sample},
            benchmark={"enabled": False}, evaluation={"similarity": False, "answer_questions": 1}, embedder=embedder,
        )  # fmt: skip
        return PlainRuntime(settings, parsers)

    with embedding_server(model.embed_documents) as server:
        named = {"backend": "litellm", "model": "openai/all-MiniLM-L6-v2", "api_base": server.url}
        with open_(**named, parity="openvino:all-MiniLM-L6-v2") as runtime:
            report = run(runtime)
            assert (report.generation["state"], report.refused) == ("live", None)
            generation = live(runtime)
            assert generation.key.embedder_fp == model.fingerprint
            assert max(server.sizes) <= 32
            scores = store.latest(runtime, generation)[1].retrieval
            assert scores["ndcg@10"].value > 0.9
    asked = len(server.requests)

    with open_(backend="openvino") as runtime:
        again = run(runtime)
        assert (again.embeddings["computed"], live(runtime).id) == (0, generation.id)
        hits = search(runtime, "What is Pompe disease?", collection="default", k=3).hits
        assert hits[0].document == "health/neurology/pompe-disease.md"
        rows = query(
            runtime,
            "SELECT c.context, coalesce(c.embedded, c.text), e.vector FROM chunk c JOIN embedding e USING (text_hash) LIMIT 40",
        )
        texts = [f"{context}\n{text}" if context else text for context, text, _ in rows]
        stored = np.stack([vector.to_numpy() for _, _, vector in rows])
        assert np.sum(model.embed_documents(texts) * stored, axis=1).min() > 0.9999
    assert len(server.requests) == asked
