"""The index under test, as any process can open it: where its parts are, and under which settings."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from rag_assets.database.embedded import embedded
from rag_assets.database.pool import Database
from rag_assets.documents.parsing import ParserPool
from rag_assets.fingerprint import text_hash
from rag_assets.models import Vectors
from rag_assets.settings import EmbedderSettings, ParsingSettings, Settings
from rag_assets_tests.driving import WarmRuntime
from rag_assets_tests.fakes import FakeEmbedder
from rag_assets_tests.faults.judging import Batch
from rag_assets_tests.faults.oracle import DIMENSION, Recipe
from rag_assets_tests.faults.parsing import InProcessParsers, default_parser_fp

MODEL = EmbedderSettings().model
BASE: Mapping[str, Any] = {
    "sync": {"shards": 2, "max_vanished_share": 1.0},
    "chunking": {"max_tokens": 64, "overlap_tokens": 0},
    # Nothing here is judged by the clock: the machine may be as slow as it likes.
    "gates": {"search_p95_seconds": 600},
    "benchmark": {"enabled": False},
}
"""Settings of every subject; what a test says goes before them, section by section."""


class LoggedEmbedder(FakeEmbedder):
    """Writes down what it embeds, where a kill can't take it back: what "embedded again" is judged by."""

    def __init__(self, version: str, log: Path) -> None:
        super().__init__(version=version, dimension=DIMENSION)
        self._log = log

    def warm(self) -> None:
        """Nothing to load."""

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        vectors = super().embed_documents(texts)
        entry = {"pid": os.getpid(), "model": self.name, "texts": [text_hash(text) for text in texts]}
        descriptor = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, json.dumps(entry).encode() + b"\n")
        finally:
            os.close(descriptor)
        return vectors


class FaultRuntime(WarmRuntime):
    """A runtime whose parsers and models cost nothing to start."""

    def __init__(self, subject: "Subject", parsers: ParserPool) -> None:
        super().__init__(subject.configuration(), parsers)
        self._subject = subject

    @cached_property
    def database(self) -> Database:
        home = self._subject.server_home
        revive = None if home is None else embedded(home).acquire
        return Database(self._subject.url, revive=revive, frozen_seconds=self._subject.frozen_seconds)

    @cached_property
    def parser_fp(self) -> str:
        return default_parser_fp()

    @cached_property
    def attempt_fp(self) -> str:
        return default_parser_fp()

    def _embedder(self, settings: EmbedderSettings) -> FakeEmbedder:
        return self.fakes.setdefault(settings.model, LoggedEmbedder(settings.model, self._subject.log))


@dataclass(frozen=True)
class Subject:
    """One index under test. Cheap to copy, and to send to another process."""

    folder: Path
    """Holds the source, the state and the log of what was embedded."""
    url: str
    """URL of its database."""
    server_home: Path | None = None
    """Home of the embedded server that this index brings back when it finds it gone; None: somebody else's business."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    frozen_seconds: float = 1.0
    parser_pool: bool = False
    """Parse in processes, as the product does."""

    @property
    def source(self) -> Path:
        return self.folder / "documents"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def log(self) -> Path:
        return self.folder / "embedded.jsonl"

    def under(self, **settings: Any) -> "Subject":
        """The same index under other settings."""
        return replace(self, settings={**self.settings, **settings})

    def configuration(self) -> Settings:
        sections: dict[str, Any] = dict(BASE)
        for name, section in self.settings.items():
            sections[name] = {**sections.get(name, {}), **section}
        collections = {"default": {"source": self.source}}
        return Settings(home=self.home, postgres_url=self.url, collections=collections, **sections)

    def recipe(self) -> Recipe:
        """How its configuration wants the index made."""
        settings = self.configuration()
        return Recipe(settings.chunking, settings.embedder.model)

    @contextmanager
    def opened(self) -> Iterator[FaultRuntime]:
        parsers: Any = ParserPool(ParsingSettings()) if self.parser_pool else InProcessParsers()
        runtime = FaultRuntime(self, parsers)
        try:
            yield runtime
        finally:
            runtime.close()
            parsers.close()

    def embedded(self) -> list[Batch]:
        """Every batch embedded so far, in order."""
        if not self.log.exists():
            return []
        entries = [json.loads(line) for line in self.log.read_bytes().splitlines()]
        return [(entry["pid"], entry["model"], entry["texts"]) for entry in entries]
