"""The embedder does not wait for a shard to be cut to its end."""

from collections.abc import Sequence
from pathlib import Path
from threading import Event

import pytest

from rag_assets.fingerprint import document_id
from rag_assets.indexing import chunks, embeddings
from rag_assets.models import Vectors
from rag_assets_tests.driving import OpenIndex, corpus, live_rows, run, wanted_rows
from rag_assets_tests.fakes import FakeEmbedder


class Waiting(FakeEmbedder):
    """Counts the tokens of one document only when something was embedded."""

    def __init__(self, heading: str) -> None:
        super().__init__(dimension=64)
        self.heading, self.begun, self.waited_for = heading, Event(), False

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        if any(self.heading in text for text in texts):
            assert self.begun.wait(20), "nothing was embedded while the shard was being cut"
            self.waited_for = True
        return super().count_tokens(texts)

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        self.begun.set()
        return super().embed_documents(texts)


def test_texts_are_embedded_while_their_shard_is_being_cut(
    open_index: OpenIndex, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "BATCH", 2)
    monkeypatch.setattr(embeddings, "BATCH", 2)
    corpus(source)
    index = open_index(sync={"shards": 1})
    last = max(range(8), key=lambda number: document_id("default", f"d{number:02d}.md".encode()))
    embedder = index.fakes[index.settings.embedder.model] = Waiting(f"Document {last}")
    report = run(index)
    assert embedder.waited_for
    rows = wanted_rows(index, source)
    assert live_rows(index).keys() == rows.keys()
    assert report.embeddings == {"computed": len(rows), "reused": 0}
    assert len(embedder.embedded) == len(set(embedder.embedded)) == len(rows)
