"""A model on the loopback interface: it answers ragas' prompts, and others, from a script, and misbehaves on request."""

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

KINDS = {
    "statements": "Given a question and an answer, analyze the complexity",
    "verdicts": "Your task is to judge the faithfulness",
    "question": "Generate a question for the given answer",
    "useful": "Given question, answer and context verify",
    "recall": "Given a context and an answer, analyze each statement",
    "claims": "Decompose and break down each of the input sentences",
}
"""How ragas' prompts begin."""
OTHER = "other"
"""Any other prompt: its entry in ``replies`` gets the last message and returns a ``Fault``, ``says(…)`` for a right answer."""
_INPUT = re.compile(r"\ninput: (\{.*\})\nOutput: ", re.DOTALL)

Reply = Callable[[dict[str, Any]], Any]
Fault = Callable[[BaseHTTPRequestHandler], None]


def refuses(status: int, **headers: str) -> Fault:
    """An HTTP error."""

    def send(handler: BaseHTTPRequestHandler) -> None:
        _send(handler, status, json.dumps({"error": {"message": "scripted"}}).encode(), **headers)

    return send


def html(handler: BaseHTTPRequestHandler) -> None:
    """A proxy's page with status 200."""
    _send(handler, 200, b"<html><body>Please log in</body></html>", content_type="text/html")


def cut(handler: BaseHTTPRequestHandler) -> None:
    """Half an answer, then the connection is closed."""
    body = _completion('{"reason": "r", "verdict": 1}')
    _start(handler, 200, len(body))
    handler.wfile.write(body[: len(body) // 2])
    handler.wfile.flush()
    handler.close_connection = True


def drip(handler: BaseHTTPRequestHandler) -> None:
    """A right answer, a byte at a time: every read succeeds, the whole never does."""
    body = _completion('{"reason": "r", "verdict": 1}')
    _start(handler, 200, len(body))
    for position in range(len(body)):
        try:
            handler.wfile.write(body[position : position + 1])
            handler.wfile.flush()
        except OSError:
            return
        time.sleep(0.1)


def says(text: str, finish: str = "stop") -> Fault:
    """A well-formed completion of any content."""
    return lambda handler: _send(handler, 200, _completion(text, finish))


class JudgeServer:
    """Answers each kind of prompt by its entry in ``replies``; ``faults`` of a kind are used up first, in order."""

    def __init__(self) -> None:
        self.replies: dict[str, Reply] = {}
        self.faults: dict[str, list[Fault]] = {}
        self.always: Fault | None = None
        self.asked: Counter[str] = Counter()
        self.requests: list[tuple[float, str, dict[str, Any]]] = []
        """When, what kind, the body."""
        self._lock = threading.Lock()
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                script.handle(self)

            def log_message(self, format: str, *args: object) -> None:
                """Keep quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"127.0.0.1:{self.server.server_port}"

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
        last = body["messages"][-1]["content"]
        prompt = next((m["content"] for m in body["messages"] if _INPUT.search(m["content"])), last)
        kind = next((name for name, start in KINDS.items() if start in prompt), OTHER)
        with self._lock:
            self.asked[kind] += 1
            self.requests.append((time.monotonic(), kind, body))
            fault = self.faults[kind].pop(0) if self.faults.get(kind) else self.always
        if fault is not None:
            fault(handler)
            return
        if kind == OTHER:
            self.replies[OTHER](prompt)(handler)
            return
        found = _INPUT.findall(prompt)
        _send(handler, 200, _completion(json.dumps(self.replies[kind](json.loads(found[-1])))))

    @property
    def total(self) -> int:
        return len(self.requests)


@contextmanager
def judge_server() -> Iterator[JudgeServer]:
    script = JudgeServer()
    thread = threading.Thread(target=script.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield script
    finally:
        script.server.shutdown()
        script.server.server_close()
        thread.join()


def judge_models(folder: Path, address: str, extra: str = "", params: str = "") -> Path:
    """A model list whose ``judge`` is that server: 1 dollar per million tokens read, 2 per million written."""
    path = folder / "models.yaml"
    path.write_text(
        "model_list:\n"
        "  - model_name: judge\n"
        "    litellm_params:\n"
        "      model: openai/scripted\n"
        f"      api_base: http://{address}/v1\n"
        "      api_key: sk-test\n"
        "      input_cost_per_token: 0.000001\n"
        "      output_cost_per_token: 0.000002\n" + params + extra,
        encoding="utf-8",
    )
    return path


def _completion(text: str, finish: str = "stop") -> bytes:
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    answer = {"id": "1", "object": "chat.completion", "created": 1, "model": "scripted"}
    return json.dumps({**answer, "choices": [choice], "usage": usage}).encode()


def _start(handler: BaseHTTPRequestHandler, status: int, length: int, **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"content_type": "application/json", **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("content-length", str(length))
    handler.end_headers()


def _send(handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    _start(handler, status, len(body), **headers)
    handler.wfile.write(body)
