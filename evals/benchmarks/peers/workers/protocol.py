"""What every worker shares: it reads a request, does it, and prints one line of JSON. Only the standard library is used here.

    python WORKER.py update REQUEST.json    bring the index up to date with the folder
    python WORKER.py search REQUEST.json    ask questions at several breadths of the graph's search

The clock starts with this module's import, before any library of the peer is imported.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

STARTED = time.perf_counter()
K = 10
WARM_UP = 10
"""Searches at the beginning of each sweep that are not counted."""


class Searcher(Protocol):
    """Searches a stored index."""

    def embed(self, question: str) -> Sequence[float]:
        """The vector of a question, as the peer makes it."""
        ...

    def find(self, vector: Sequence[float], ef: int) -> list[str]:
        """Ids of the K nearest rows, through the peer's own interface."""
        ...

    def ask(self, question: str, ef: int) -> list[str]:
        """Documents of the K nearest rows of a question in words, through the peer's own interface."""
        ...


def request() -> dict[str, Any]:
    """What is asked for."""
    return json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))


def documents(folder: str) -> list[tuple[str, str]]:
    """(name, text) of every file under the folder, by name."""
    root = Path(folder)
    return [
        (path.relative_to(root).as_posix(), path.read_text(encoding="utf-8"))
        for path in sorted(root.rglob("*"))
        if path.is_file()
    ]


def reply(**values: Any) -> None:
    """Print the answer, and leave without waiting for what libraries would still tidy up."""
    print(json.dumps(values), flush=True)
    sys.stderr.flush()
    os._exit(0)


def run(update: Callable[[dict[str, Any]], dict[str, float]], searcher: Callable[[dict[str, Any]], Searcher]) -> None:
    """Do what the command line asks for."""
    asked = request()
    if sys.argv[1] == "update":
        reply(seconds=update(asked))
    reply(**sweep(searcher(asked), asked))


def sweep(peer: Searcher, asked: dict[str, Any]) -> dict[str, Any]:
    """Times and findings of all questions at each breadth, and end to end at the widest."""
    questions = asked["questions"]
    vectors = [[float(number) for number in peer.embed(question)] for question in questions]
    Path(asked["vectors"]).write_text(json.dumps(vectors), encoding="utf-8")
    points = []
    for ef in asked["efs"]:
        for vector in vectors[:WARM_UP]:
            peer.find(vector, ef)
        times, found = [], []
        for vector in vectors:
            began = time.perf_counter()
            ids = peer.find(vector, ef)
            times.append((time.perf_counter() - began) * 1000)
            found.append(ids)
        points.append({"ef": ef, "milliseconds": times, "found": found})
    whole = []
    for question in questions[:100]:
        began = time.perf_counter()
        peer.ask(question, asked["default_ef"])
        whole.append((time.perf_counter() - began) * 1000)
    gone = [peer.ask(text, asked["default_ef"]) for text in asked["gone"]]
    return {"points": points, "whole": whole, "gone": gone}
