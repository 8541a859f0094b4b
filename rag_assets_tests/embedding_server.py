"""An embedding server on the loopback interface, in OpenAI's protocol and within text-embeddings-inference's limits, that can lie."""

import json
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from rag_assets.models import Vectors

Rows = list[dict[str, Any]]
MOST_TEXTS = 32
"""What text-embeddings-inference takes by default."""


class Handler(BaseHTTPRequestHandler):
    server: "EmbeddingServer"
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        with server.lock:
            server.requests.append({**body, "path": self.path, "headers": dict(self.headers)})
            failure = server.fail(texts)
        if failure is not None:
            self.send(*failure)
        elif self.path != "/v1/embeddings":
            self.send(404, {"error": {"message": "Not Found"}})
        elif len(texts) > MOST_TEXTS:
            message = f"batch size {len(texts)} > maximum allowed batch size {MOST_TEXTS}"
            self.send(413, {"error": message, "error_type": "Validation"})
        else:
            vectors = server.embed(texts)
            rows = [{"object": "embedding", "index": n, "embedding": v.tolist()} for n, v in enumerate(vectors)]
            usage = {"prompt_tokens": sum(len(text.split()) for text in texts), "total_tokens": 0}
            self.send(200, {"object": "list", "model": body["model"], "usage": usage, "data": server.lie(rows)})

    def send(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(data)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Nothing on standard error."""


class EmbeddingServer(ThreadingHTTPServer):
    daemon_threads = True
    address_family = socket.AF_INET

    def __init__(self, embed: Callable[[Sequence[str]], Vectors]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.embed = embed
        self.lie: Callable[[Rows], Any] = lambda rows: rows
        """What becomes of right rows on their way out."""
        self.fail: Callable[[list[str]], tuple[Any, ...] | None] = lambda texts: None
        """(status, content[, headers]) to answer with instead."""
        self.requests: list[dict[str, Any]] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    @property
    def sizes(self) -> list[int]:
        """Texts of each request."""
        return [len(request["input"]) for request in self.requests]


@contextmanager
def embedding_server(embed: Callable[[Sequence[str]], Vectors]) -> Iterator[EmbeddingServer]:
    server = EmbeddingServer(embed)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def reversed_(rows: Rows) -> Rows:
    """The vectors in reverse order under numbers that say nothing is."""
    return [{**row, "embedding": other["embedding"]} for row, other in zip(rows, reversed(rows), strict=True)]


def unnumbered(rows: Rows) -> Rows:
    """In reverse order, and without numbers."""
    return [{"object": "embedding", "embedding": row["embedding"]} for row in reversed(rows)]


def shifted(rows: Rows) -> Rows:
    """Each text has the vector of the next."""
    moved = rows[1:] + rows[:1]
    return [{**row, "embedding": other["embedding"]} for row, other in zip(rows, moved, strict=True)]


def replacing(value: Any, place: int = 0) -> Callable[[Rows], Rows]:
    """One text's vector is full of a value."""

    def lie(rows: Rows) -> Rows:
        return [
            {**row, "embedding": [value] * len(row["embedding"])} if row["index"] == place % len(rows) else row
            for row in rows
        ]

    return lie


def of_dimension(dimension: int) -> Callable[[Rows], Rows]:
    """Vectors of another length."""
    return lambda rows: [{**row, "embedding": np.resize(row["embedding"], dimension).tolist()} for row in rows]
