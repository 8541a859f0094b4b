"""``doctor``: is this installation fit for work, and if not, what to do about it."""

import os
import platform
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from rag_assets.errors import RagAssetsError
from rag_assets.generation.extractive import OFFLINE_NAME
from rag_assets.models import ServedEmbedder, Vectors
from rag_assets.settings import Settings, find_config, load_settings

State = Literal["ok", "warning", "broken"]

FLOORS = {"unstructured": (0, 18, 18), "torch": (2, 6), "litellm": (1, 83, 7)}
"""Oldest releases without a known vulnerability that matters here (CVE-2025-64712, CVE-2025-32434, the trojaned litellm)."""
LOW_DISK = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: State
    text: str

    def as_json(self) -> dict[str, str]:
        """For scripts."""
        return {"name": self.name, "state": self.state, "text": self.text}


def examine(source: Path | str | None = None, collection: str | None = None) -> list[Finding]:
    """Look at everything once; a broken part never hides the others."""
    findings = [_python(), *(_package(name, floor) for name, floor in FLOORS.items())]
    try:
        settings = load_settings(source=source, collection=collection)
    except RagAssetsError as error:
        return [*findings, Finding("settings", "broken", str(error))]
    config = find_config()
    findings.append(Finding("settings", "ok", str(config) if config else "defaults (no rag_assets.toml here or above)"))
    looks: list[tuple[str, Callable[[Settings], tuple[State, str]]]] = [
        ("home", _home),
        ("processor", _processor),
        ("model", _model),
        ("database", _database),
    ]
    stores = {settings.store, *(settings.store_of(name) for name in settings.collections)} - {"pgvector"}
    looks += [(name, _store(name)) for name in sorted(stores)]
    for name in settings.collections:
        looks.append((f"source of {name}", _source_of(name)))
    looks.append(("answering model", _answers))
    return [*findings, *(_look(name, look, settings) for name, look in looks)]


def _look(name: str, look: Callable[[Settings], tuple[State, str]], settings: Settings) -> Finding:
    try:
        state, text = look(settings)
    except RagAssetsError as error:
        state, text = "broken", str(error)
    return Finding(name, state, text)


def _python() -> Finding:
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Finding("python", "ok" if sys.version_info >= (3, 11) else "broken", text)


def _package(name: str, floor: tuple[int, ...]) -> Finding:
    try:
        found = version(name)
    except PackageNotFoundError:
        return Finding(name, "broken", "is not installed; run `make install`")
    numbers = tuple(int(part) for part in found.split("+")[0].split(".")[: len(floor)] if part.isdigit())
    oldest = ".".join(map(str, floor))
    return Finding(name, "ok" if numbers >= floor else "broken", f"{found} (at least {oldest})")


def _home(settings: Settings) -> tuple[State, str]:
    settings.home.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(settings.home).free
    text = f"{settings.home}, {free / 1e9:.1f} GB free"
    return ("ok", text) if free > LOW_DISK else ("warning", f"{text}: less than {LOW_DISK / 1e9:.0f} GB")


def _processor(settings: Settings) -> tuple[State, str]:
    from rag_assets.embedding.model_files import computes_bfloat16

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return "ok", f"{cores} cores, bfloat16 {'yes' if computes_bfloat16() else 'no'}"


def _model(settings: Settings) -> tuple[State, str]:
    from rag_assets.embedding import build_embedder

    embedder = build_embedder(settings.embedder)
    if isinstance(embedder, ServedEmbedder):
        embedder.prove()
    return "ok", f"{embedder.name}, reads {embedder.max_tokens} tokens, fingerprint {embedder.fingerprint[:12]}"


def _database(settings: Settings) -> tuple[State, str]:
    from rag_assets.runtime import Runtime

    with Runtime(settings) as runtime, runtime.database.transaction() as connection:
        row = connection.execute(
            "SELECT current_setting('server_version'), (SELECT extversion FROM pg_extension WHERE extname = 'vector')"
        ).fetchone()
    kind = "server of RAG_POSTGRES_URL" if settings.postgres_url else "embedded"
    return "ok", f"{kind}, PostgreSQL {row[0] if row else '?'}, pgvector {row[1] if row else '?'}"


def _store(name: str) -> Callable[[Settings], tuple[State, str]]:
    def look(settings: Settings) -> tuple[State, str]:
        from rag_assets.stores.choosing import build_store

        store = build_store(name, settings)
        try:
            return "ok", store.check()
        finally:
            store.close()

    return look


def _source_of(name: str) -> Callable[[Settings], tuple[State, str]]:
    def look(settings: Settings) -> tuple[State, str]:
        from rag_assets.documents.sources import open_source

        collection = settings.collection(name)
        source = open_source(collection, settings.sources, settings.home / "repositories")
        listing = source.listing(collection.exclude)
        text = f"{source.description}: {len(listing.files):,} files, {len(listing.skipped):,} skipped"
        return ("ok" if listing.files else "warning"), text

    return look


def _answers(settings: Settings) -> tuple[State, str]:
    answers = settings.answers
    if answers.models is None and answers.model == OFFLINE_NAME:
        return "ok", f"{answers.model} (offline, nothing to configure)"
    from rag_assets.generation.router import build_router

    build_router(answers, _no_embedding)
    return "ok", f"{answers.model} (from {answers.models}; whether it answers, only a question shows)"


def _no_embedding(texts: Sequence[str]) -> Vectors:
    raise AssertionError("making a router embeds nothing")
