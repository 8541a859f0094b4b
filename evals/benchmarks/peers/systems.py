"""The systems that are compared: how each is set up, brought up to date and searched."""

import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import numpy as np
import psutil
import psycopg
import report
import stored
from corpus import Corpus, Edit
from environments import WORKERS, Environment
from measuring import LOG, Measured, folder_bytes, measured

EFS = (10, 20, 40, 80, 160, 320)
K = 10
LEFT_ALONE_SECONDS = 3
SETTINGS = {
    "chunk_tokens": 256, "overlap_tokens": 32, "m": 16, "ef_construction": 64, "dimension": 384, "default_ef": 100,
    "efs": list(EFS),
}  # fmt: skip
"""Equal for all: the defaults of rag-assets."""


@dataclass
class Bench:
    """What all systems share."""

    root: Path
    corpus: Corpus
    url: str
    server: psutil.Process
    environment: dict[str, str]
    repeats: int


@dataclass
class Framework:
    """A system that keeps an index of a folder in PostgreSQL."""

    name: str
    how: str
    bench: Bench
    python: Path
    worker: str
    rows: str
    model: Path | None = None
    request: dict[str, Any] = field(default_factory=dict)
    client_mb: float = 0.0
    server_mb: float = 0.0
    index_seconds: float = 0.0

    def set_up(self) -> None:
        """A database, and a folder for whatever it keeps outside of that."""
        self.folder = self.bench.root / "systems" / self.name.replace(" ", "-")
        self.state = self.folder / "state"
        self.state.mkdir(parents=True)
        # ``python -m`` imports from where it is called; what is made there in the moment before may be a module.
        (self.folder / LOG).touch()
        database = "peer_" + "".join(letter if letter.isalnum() else "_" for letter in self.name)
        with psycopg.connect(self.bench.url, autocommit=True) as connection:
            connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(database)))
        parts = urlsplit(self.bench.url)
        self.url = urlunsplit((parts.scheme, parts.netloc, f"/{database}", parts.query, ""))
        with psycopg.connect(self.url) as connection:
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        self.request = {
            **SETTINGS, "url": self.url, "folder": str(self.bench.corpus.folder), "state": str(self.state),
            "model": str(self.model),
        }  # fmt: skip
        self.environment = self.bench.environment

    def command(self, action: str, extra: Mapping[str, Any]) -> list[str | Path]:
        """Run the worker with a request."""
        path = self.folder / "request.json"
        path.write_text(json.dumps({**self.request, **extra}), encoding="utf-8")
        return [self.python, WORKERS / self.worker, action, path]

    def update(self, *, first: bool) -> dict[str, Any]:
        """Bring it up to date with the folder: (wall seconds, seconds without imports and model)."""
        done = self.run(self.command("update", {"first": first}))
        return {"seconds": done.seconds, "work": done.reply["seconds"]["work"], "parts": done.reply["seconds"]}

    def run(self, command: Sequence[str | Path]) -> Measured:
        done = measured(command, environment=self.environment, folder=self.folder, server=self.bench.server)
        self.client_mb, self.server_mb = max(self.client_mb, done.client_mb), max(self.server_mb, done.server_mb)
        return done

    def look(self, edits: Sequence[Edit]) -> dict[str, Any]:
        """What is in its tables, and whether it is right."""
        rows, _ = stored.read(self.url, self.rows, str(self.bench.corpus.folder))
        return {"faults": stored.faults(rows, self.bench.corpus, edits).text(), "rows": len(rows)}

    def disk_mb(self) -> float:
        """Its database without dead rows, and its files."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("VACUUM")
            size: Any = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        return (int(size[0]) + folder_bytes(self.state)) / 1e6

    def search(self, questions: Sequence[str], gone: Mapping[str, str]) -> dict[str, Any]:
        """Times at every breadth with recall beside them; how many answers come from deleted documents."""
        path = self.folder / "vectors.json"
        texts = [" ".join(text.split())[:300] for text in list(gone.values())[:20]]
        extra = {"questions": list(questions), "vectors": str(path), "gone": texts, "mode": "dense"}
        # The memory of a searching process is another matter than that of an update.
        reply = measured(
            self.command("search", extra), environment=self.environment, folder=self.folder, server=None
        ).reply
        queries = np.asarray(json.loads(path.read_text(encoding="utf-8")), np.float32)
        rows, vectors = stored.read(self.url, self.rows, str(self.bench.corpus.folder))
        ids = [row.id for row in rows]
        points = [
            report.point(p["ef"], p["milliseconds"], stored.recall(ids, vectors, queries, p["found"], K))
            for p in reply["points"]
        ]
        prefix = str(self.bench.corpus.folder) + "/"
        answers = [name.removeprefix(prefix) in gone for names in reply["gone"] for name in names]
        whole = {"p50": report.percentile(reply["whole"], 0.5), "p95": report.percentile(reply["whole"], 0.95)}
        return {"points": points, "whole": whole, "gone_answers": sum(answers)}


class Ours(Framework):
    """The command ``rag-assets sync``, and the product's search."""

    def set_up(self) -> None:
        super().set_up()
        # What it costs to bring an index up to date, not to measure how quickly it answers.
        # And the beam of each search is ours to choose: without floors no wider one is kept with the index.
        own = "[benchmark]\nenabled = false\n[gates]\nann_recall_mean = 0\nann_recall_p05 = 0\n"
        (self.folder / "rag_assets.toml").write_text(own, encoding="utf-8")
        self.environment = {
            **self.bench.environment,
            "RAG_HOME": str(self.state),
            "RAG_POSTGRES_URL": self.url,
            "RAG_SOURCE": str(self.bench.corpus.folder),
            "PYTHONPATH": str(Path(__file__).resolve().parents[3]),
        }

    def update(self, *, first: bool) -> dict[str, Any]:
        done = self.run([self.python, "-m", "rag_assets", "sync", "--json"])
        if first:
            self.index_seconds = done.reply["seconds"]["index"]
        return {"seconds": done.seconds, "work": done.reply["seconds"]["total"], "parts": done.reply["seconds"]}


def measure(system: Framework, questions: Sequence[str], folder: Path) -> dict[str, Any]:
    """All steps of one system on a fresh copy of the documents, which its edits and deletions change."""
    bench = system.bench
    system.set_up()
    # A team's documents and settings were not written in the moment before; ours trusts no file's times then (rag_assets/stamp.py).
    time.sleep(LEFT_ALONE_SECONDS)
    _say(system.name, "cold build")
    steps = {"cold build": system.update(first=True) | system.look([])}
    steps["first no-op"] = system.update(first=False) | system.look([])
    repeated = [system.update(first=False) for _ in range(bench.repeats)]
    steps["no-op"] = _median(repeated) | system.look([])
    # The searches are of the whole collection; those for deleted documents come at the end.
    found = system.search(questions, {})
    _export(system, folder)
    edits = bench.corpus.edit(0.01, seed=1)
    _say(system.name, "1 % edits")
    steps["1 % edits"] = system.update(first=False) | system.look(edits)
    gone = bench.corpus.delete(0.10, seed=2)
    steps["10 % deletes"] = system.update(first=False) | system.look(edits)
    rows = steps["cold build"]["rows"]
    last = system.search(questions[:1], gone)
    return {
        "kind": "framework", "how": system.how, "steps": steps, "rows": rows, "points": found["points"], "whole": found["whole"],
        "gone_answers": last["gone_answers"], "client_mb": system.client_mb, "server_mb": system.server_mb,
        "disk_mb": system.disk_mb(), "index_seconds": system.index_seconds,
    }  # fmt: skip


def _median(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    middle = statistics.median_low(row["seconds"] for row in rows)
    return next(row for row in rows if row["seconds"] == middle)


def _export(system: Framework, folder: Path) -> None:
    """The vectors of ours, for the libraries that are an index alone."""
    if not isinstance(system, Ours):
        return
    _, vectors = stored.read(system.url, system.rows, str(system.bench.corpus.folder))
    np.save(folder / "rows.npy", vectors)
    queries = json.loads((system.folder / "vectors.json").read_text(encoding="utf-8"))
    np.save(folder / "queries.npy", np.asarray(queries, np.float32))


def measure_index(name: str, environment: Environment, bench: Bench, threads: int, version: str) -> dict[str, Any]:
    """A library that is an index and nothing else, over our vectors."""
    _say(name, "index alone")
    request = {
        **SETTINGS, "rows": str(bench.root / "rows.npy"), "queries": str(bench.root / "queries.npy"), "threads": threads,
        "file": str(bench.root / f"{name}.index"),
    }  # fmt: skip
    path = bench.root / f"{name}.json"
    path.write_text(json.dumps(request), encoding="utf-8")
    done = measured(
        [environment.python, WORKERS / "index_worker.py", name, path],
        environment=bench.environment, folder=bench.root, server=None,
    )  # fmt: skip
    vectors, queries = np.load(bench.root / "rows.npy"), np.load(bench.root / "queries.npy")
    ids = [str(number) for number in range(len(vectors))]
    points = [
        report.point(p["ef"], p["milliseconds"], stored.recall(ids, vectors, queries, p["found"], K))
        for p in done.reply["points"]
    ]
    return {**done.reply, "kind": "index", "how": version, "points": points, "client_mb": done.client_mb}


def _say(name: str, what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {name}: {what}", file=sys.stderr, flush=True)
