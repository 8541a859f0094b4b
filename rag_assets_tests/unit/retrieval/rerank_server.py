"""A rerank endpoint on the loopback interface, in Cohere's (also Jina's and infinity's) and TEI's protocols, that can misbehave."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[["Handler", list[float]], None]


class Handler(BaseHTTPRequestHandler):
    """Scores a passage by the words it shares with the question, and remembers how many passages each request had."""

    server: "Server"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        passages = body["texts"] if "texts" in body else body["documents"]
        self.server.requests.append({"path": self.path, "passages": passages, **body, "headers": dict(self.headers)})
        asked = set(body["query"].split())
        scores = [len(asked & set(passage.split())) / len(asked) for passage in passages]
        self.server.reply(self, scores)

    def send(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Nothing on standard error."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    address_family = socket.AF_INET

    def __init__(self, reply: Reply) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.reply = reply
        self.requests: list[dict[str, Any]] = []
        self.stopped = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def serving(reply: Reply) -> Iterator[Server]:
    server = Server(reply)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.stopped.set()
        server.shutdown()
        thread.join()
        server.server_close()


def rows(scores: list[float]) -> list[dict[str, Any]]:
    """As the services answer: best first."""
    order = sorted(range(len(scores)), key=lambda index: -scores[index])
    return [{"index": index, "relevance_score": scores[index]} for index in order]


def cohere(handler: Handler, scores: list[float]) -> None:
    meta = {"api_version": {"version": "1"}, "billed_units": {"search_units": 1}}
    handler.send(200, json.dumps({"id": "1", "results": rows(scores), "meta": meta}).encode())


def jina(handler: Handler, scores: list[float]) -> None:
    usage = {"total_tokens": 9, "prompt_tokens": 9}
    handler.send(200, json.dumps({"model": "m", "object": "list", "usage": usage, "results": rows(scores)}).encode())


def tei(handler: Handler, scores: list[float]) -> None:
    """Refuses more passages than its default ``--max-client-batch-size``."""
    if len(scores) > 32:
        error = {"error": f"batch size {len(scores)} > maximum allowed batch size 32", "error_type": "Validation"}
        handler.send(413, json.dumps(error).encode())
    else:
        found = [{"index": row["index"], "score": row["relevance_score"]} for row in rows(scores)]
        handler.send(200, json.dumps(found).encode())


def dripping(handler: Handler, scores: list[float]) -> None:
    """A byte every twentieth of a second: no wait is long, the whole is."""
    content = json.dumps({"id": "1", "results": rows(scores)}).encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    for byte in content:
        if handler.server.stopped.is_set():
            return
        handler.wfile.write(bytes([byte]))
        time.sleep(0.05)


def failing(status: int) -> Reply:
    return lambda handler, scores: handler.send(status, b'{"message": "told to fail"}')


def saying(change: Callable[[list[dict[str, Any]]], Any]) -> Reply:
    """Other rows than those that are right."""
    return lambda handler, scores: handler.send(200, json.dumps({"id": "1", "results": change(rows(scores))}).encode())


def garbled(handler: Handler, scores: list[float]) -> None:
    handler.send(200, b'{"id": "1", "results": [{"ind')
