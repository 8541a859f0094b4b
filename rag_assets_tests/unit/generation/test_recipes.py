"""Every recipe in deploy/generators against a scripted server that speaks that service's API, and with the server failing."""

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from rag_assets.generation.prompt import Passage, build_messages
from rag_assets.generation.router import build_router
from rag_assets.settings import AnswerSettings
from rag_assets_tests.unit.generation.fakes import SECRET, embed

RECIPES = Path(__file__).parents[3] / "deploy" / "generators"
MESSAGES = build_messages(
    "How many parking spaces does the garage have?", [Passage("The garage has forty parking spaces.")]
)
SPOKEN = "Forty [1]."


class Service(ThreadingHTTPServer):
    """OpenAI's chat completions, Anthropic's messages and Ollama's chat, each at its own path."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[dict[str, Any]] = []
        self.fails = False

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append({**body, "path": self.path, "headers": headers})
        answer = ANSWERS.get(self.path)
        if self.server.fails or answer is None:
            self.send(500 if answer else 404, {"error": {"type": "api_error", "message": "told to fail"}})
        else:
            self.send(200, answer)

    def send(self, status: int, content: Any) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Nothing on standard error."""


_CHOICE = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": SPOKEN}}
_COMPLETION = {
    "id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [_CHOICE],
    "usage": {"prompt_tokens": 120, "completion_tokens": 9, "total_tokens": 129},
}  # fmt: skip
ANSWERS: dict[str, Any] = {
    "/v1/chat/completions": _COMPLETION,
    "/chat/completions": _COMPLETION,
    "/v1/messages": {
        "id": "1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn", "stop_sequence": None,
        "content": [{"type": "text", "text": SPOKEN}], "usage": {"input_tokens": 120, "output_tokens": 9},
    },
    "/api/chat": {
        "model": "m", "created_at": "2026-01-01T00:00:00Z", "message": {"role": "assistant", "content": SPOKEN}, "done": True,
        "done_reason": "stop", "prompt_eval_count": 120, "eval_count": 9,
    },
}  # fmt: skip
# Recipe: (path it is asked at, model it is asked for, header that carries the key).
CALLS = {
    "openai": ("/v1/chat/completions", "gpt-4o-mini", ("authorization", f"Bearer {SECRET}")),
    "anthropic": ("/v1/messages", "claude-haiku-4-5", ("x-api-key", SECRET)),
    "ollama": ("/api/chat", "llama3.1", None),
    "vllm": ("/v1/chat/completions", "Qwen/Qwen2.5-7B-Instruct", None),
    "llama-cpp": ("/v1/chat/completions", "local", ("authorization", "Bearer none")),
    "litellm-proxy": ("/chat/completions", "gpt-4o-mini", ("authorization", f"Bearer {SECRET}")),
}


@pytest.fixture
def service() -> Iterator[Service]:
    found = Service()
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield found
    found.shutdown()
    found.server_close()
    thread.join()


@pytest.fixture
def open_recipe(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """(router, the model's name) of a recipe whose service is at the scripted server's address."""

    def open_(recipe: str) -> tuple[Any, str]:
        text = (RECIPES / f"{recipe}.yaml").read_text(encoding="utf-8")
        (name,) = {entry["model_name"] for entry in yaml.safe_load(text)["model_list"]}
        for variable in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "LITELLM_PROXY_KEY"):
            monkeypatch.setenv(variable, SECRET)
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://{service.address}/v1")
        monkeypatch.setenv("ANTHROPIC_API_BASE", f"http://{service.address}")
        path = tmp_path / f"{recipe}.yaml"
        path.write_text(re.sub(r"127\.0\.0\.1:\d+", service.address, text), encoding="utf-8")
        return build_router(AnswerSettings(models=path, model=name), embed), name

    return open_


def test_there_is_a_call_for_every_recipe() -> None:
    assert {path.stem for path in RECIPES.glob("*.yaml")} == CALLS.keys()


@pytest.mark.parametrize("recipe", CALLS)
def test_the_service_answers_in_its_own_protocol(open_recipe: Any, service: Service, recipe: str) -> None:
    router, name = open_recipe(recipe)
    reply = router.completion(model=name, messages=MESSAGES)
    assert reply.choices[0].message.content == SPOKEN
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (120, 9)
    path, model, key = CALLS[recipe]
    (request,) = service.requests
    assert (request["path"], request["model"]) == (path, model)
    assert "parking spaces" in json.dumps(request["messages"])
    if key:
        assert request["headers"][key[0]] == key[1]


@pytest.mark.parametrize("recipe", CALLS)
def test_the_offline_answerer_takes_over_from_a_service_that_fails(
    open_recipe: Any, service: Service, recipe: str
) -> None:
    router, name = open_recipe(recipe)
    service.fails = True
    reply = router.completion(model=name, messages=MESSAGES)
    assert service.requests
    assert reply.choices[0].message.content == "The garage has forty parking spaces. [1]"


@pytest.mark.parametrize("recipe", CALLS)
def test_a_recipe_holds_no_key_and_names_its_setting(recipe: str) -> None:
    text = (RECIPES / f"{recipe}.yaml").read_text(encoding="utf-8")
    (entry,) = yaml.safe_load(text)["model_list"]
    assert entry["litellm_params"].get("api_key", "none") == "none" or entry["litellm_params"]["api_key"].startswith(
        "os.environ/"
    )
    assert f'models = "deploy/generators/{recipe}.yaml", model = "{entry["model_name"]}"' in text
