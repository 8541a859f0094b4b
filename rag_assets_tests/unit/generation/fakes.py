"""Small stand-ins: an embedder without a model, and a server that speaks just enough of OpenAI's protocol."""

import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

from rag_assets.generation.extractive import terms
from rag_assets.models import Hit, Vectors

SECRET = "sk-do-not-print-me-0123456789"


def embed(texts: Sequence[str]) -> Vectors:
    """Bags of words: each term has a fixed random direction, and a text is the normalised sum of its terms."""
    rows = []
    for text in texts:
        total = np.full(64, 1e-6)
        for term in sorted(terms(text)):
            seed = int.from_bytes(hashlib.blake2b(term.encode(), digest_size=8).digest(), "big")
            total += np.random.default_rng(seed).standard_normal(64)
        rows.append(total / np.linalg.norm(total))
    return np.array(rows, dtype=np.float32)


def count_tokens(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def hit(rank: int, text: str, headings: tuple[str, ...] = ()) -> Hit:
    return Hit(rank, f"folder/doc{rank}.md", f"chunk{rank}", text, {"dense": 0.5}, {"headings": list(headings)})


class ChatServer:
    """An OpenAI-compatible server with one scripted reply; it keeps the requests it got."""

    def __init__(self) -> None:
        self.status = 200
        self.content_type = "application/json"
        self.body = b""
        self.hangs = threading.Event()
        self.requests: list[dict[str, object]] = []
        self.released = threading.Event()
        script = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                script.requests.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                if script.hangs.is_set():
                    script.released.wait(20)
                    return
                self.send_response(script.status)
                self.send_header("content-type", script.content_type)
                self.send_header("content-length", str(len(script.body)))
                self.end_headers()
                self.wfile.write(script.body)

            def log_message(self, format: str, *args: object) -> None:
                """Keep quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"127.0.0.1:{self.server.server_port}"

    def says(self, text: str) -> None:
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        usage = {"prompt_tokens": 120, "completion_tokens": 9, "total_tokens": 129}
        answer = {"id": "1", "object": "chat.completion", "created": 1, "model": "served"}
        self.body = json.dumps({**answer, "choices": [choice], "usage": usage}).encode()

    def fails(self, status: int, message: str) -> None:
        self.status = status
        self.body = json.dumps({"error": {"message": message}}).encode()


@contextmanager
def chat_server() -> Iterator[ChatServer]:
    script = ChatServer()
    thread = threading.Thread(target=script.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield script
    finally:
        script.released.set()
        script.server.shutdown()
        script.server.server_close()
        thread.join()


def write_models(folder: Path, address: str, extra: str = "") -> Path:
    path = folder / "models.yaml"
    path.write_text(
        "model_list:\n"
        "  - model_name: team\n"
        "    litellm_params:\n"
        "      model: openai/whatever\n"
        f"      api_base: http://user:pass@{address}/v1\n"
        f"      api_key: {SECRET}\n" + extra,
        encoding="utf-8",
    )
    return path
