"""A real OpenAI-compatible server, `transformers serve`, with a tiny model made here: its protocol, its tokens, its failures.

It writes nonsense, which is all that is needed: usage, streaming, timeouts and errors are the server's own.
"""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rag_assets.errors import RagAssetsError
from rag_assets.evaluation import publishing, store
from rag_assets.generation.asking import Asker
from rag_assets_tests.driving import OpenIndex, WarmRuntime, live, run, write

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
WRITTEN = 12
"""Tokens the model writes: it never ends by itself."""


def make_model(folder: Path) -> None:
    """A Llama of 2 layers with random weights and a tokenizer of its own."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<|end|>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(["alpha beta gamma [1] [2] answer the question from the passages"], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>")
    fast.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=len(fast), max_position_embeddings=8192, eos_token_id=0, pad_token_id=0, **sizes)
    )
    model.generation_config = GenerationConfig(eos_token_id=0, pad_token_id=0, do_sample=False)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """The model's folder, which is its name there, and the server's port."""
    folder = tmp_path_factory.mktemp("served")
    make_model(folder / "model")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [Path(sys.executable).parent / "transformers", "serve", folder / "model"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    log = (folder / "log").open("wb")
    process = subprocess.Popen(command, env={**os.environ, "HF_HUB_OFFLINE": "1"}, stdout=log, stderr=log)
    try:
        _wait(process, port, folder / "log")
        yield folder / "model", port
    finally:
        process.terminate()
        process.wait(timeout=30)
        log.close()


def _wait(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    for _ in range(180):
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(1)
    raise AssertionError(log.read_text())


@pytest.fixture
def open_served(open_index: OpenIndex, source: Path, tmp_path: Path, server: tuple[Path, int]) -> Callable[..., Any]:
    """An index whose answers come from the server."""
    write(source, "a.md", "alpha beta gamma\n")
    folder, port = server

    def open_(*, path: str = "/v1", **answers: Any) -> WarmRuntime:
        models = tmp_path / "models.yaml"
        models.write_text(
            "model_list:\n  - model_name: tiny\n    litellm_params:\n"
            f"      {{model: 'openai/{folder}', api_base: 'http://127.0.0.1:{port}{path}', api_key: none, max_tokens: {WRITTEN}}}\n"
        )
        runtime = open_index(answers={"models": models, "model": "tiny", "timeout_seconds": 120, **answers})
        run(runtime)
        return runtime

    return open_


def test_an_answer_has_the_servers_own_text_and_tokens(open_served: Callable[..., WarmRuntime]) -> None:
    asked = Asker(open_served()).ask("alpha?")
    assert asked.answer.text.strip()
    assert asked.answer.completion_tokens == WRITTEN
    assert asked.answer.prompt_tokens > 20
    assert (asked.answer.model, asked.answer.cost_usd) == ("tiny", None)
    assert Asker(open_served()).ask("alpha?").answer.text == asked.answer.text


def test_an_evaluation_counts_what_the_server_counts(open_served: Callable[..., WarmRuntime], tmp_path: Path) -> None:
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"id": "1", "question": "alpha", "answer": "beta", "relevant": [{"document": "a.md"}]}\n')
    runtime = open_served()
    publishing.evaluate_live(runtime, "default", questions, command="test")
    (item,) = store.latest(runtime, live(runtime))[1].questions
    assert item.usage is not None
    assert (item.usage.model, item.usage.completion_tokens, item.usage.cost_usd) == ("tiny", WRITTEN, None)
    assert item.milliseconds["generation"] > 0


@pytest.mark.parametrize(
    ("options", "said"),
    [({"timeout_seconds": 0.001}, "it did not answer in time"), ({"path": "/nowhere"}, "HTTP 404")],
    ids=["timeout", "wrong path"],
)
def test_its_failures_are_named(open_served: Callable[..., WarmRuntime], options: dict[str, Any], said: str) -> None:
    with pytest.raises(RagAssetsError, match=said):
        Asker(open_served(**options)).ask("alpha?")
