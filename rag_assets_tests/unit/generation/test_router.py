import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rag_assets.errors import ConfigurationError
from rag_assets.generation.prompt import ABSTENTION, Passage, build_messages
from rag_assets.generation.router import build_router
from rag_assets.settings import AnswerSettings

from .fakes import SECRET, chat_server, embed, write_models

MESSAGES = build_messages(
    "How many parking spaces does the garage have?", [Passage("The garage has forty parking spaces.")]
)
EXPECTED = "The garage has forty parking spaces. [1]"
DEAD = "127.0.0.1:9"
"""The discard port of the loopback interface: nothing listens there."""


def offline() -> Any:
    return build_router(AnswerSettings(), embed)


def test_the_offline_answerer_answers_synchronously_and_counts_tokens() -> None:
    response = offline().completion(model="offline-extractive", messages=MESSAGES)
    assert response.choices[0].message.content == EXPECTED
    assert response.choices[0].finish_reason == "stop"
    assert response.usage.prompt_tokens > 100
    assert response.usage.total_tokens == response.usage.prompt_tokens + response.usage.completion_tokens


def test_the_offline_answerer_answers_asynchronously() -> None:
    response = asyncio.run(offline().acompletion(model="offline-extractive", messages=MESSAGES))
    assert response.choices[0].message.content == EXPECTED
    assert response.usage.completion_tokens > 5


def test_the_offline_answerer_streams() -> None:
    chunks = list(offline().completion(model="offline-extractive", messages=MESSAGES, stream=True))
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks]
    assert "".join(texts) == EXPECTED
    assert sum(map(bool, texts)) > 3
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_the_offline_answerer_streams_asynchronously() -> None:
    async def collect() -> str:
        stream = await offline().acompletion(model="offline-extractive", messages=MESSAGES, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert asyncio.run(collect()) == EXPECTED


def test_building_again_registers_one_provider_with_the_latest_embedder() -> None:
    import litellm
    import numpy as np

    def zeros(texts: Any) -> Any:
        return np.zeros((len(texts), 2), dtype=np.float32)

    build_router(AnswerSettings(), zeros)
    offline()
    assert [entry["provider"] for entry in litellm.custom_provider_map].count("rag-assets") == 1
    assert offline().completion(model="offline-extractive", messages=MESSAGES).choices[0].message.content == EXPECTED


def test_a_dead_server_falls_back_to_the_offline_answerer(tmp_path: Path) -> None:
    path = write_models(tmp_path, DEAD, "router_settings: {fallbacks: [{team: [offline-extractive]}]}\n")
    router = build_router(AnswerSettings(models=path, model="team", timeout_seconds=5), embed)
    response = router.completion(model="team", messages=MESSAGES)
    assert response.choices[0].message.content == EXPECTED


def test_keys_come_from_the_environment_and_temperature_is_zero(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEAM_KEY", "sk-from-environment")
    with chat_server() as server:
        server.says("Yes. [1]")
        path = write_models(tmp_path, server.address)
        path.write_text(path.read_text().replace(SECRET, "os.environ/TEAM_KEY"))
        router = build_router(AnswerSettings(models=path, model="team"), embed)
        assert router.completion(model="team", messages=MESSAGES).choices[0].message.content == "Yes. [1]"
        assert server.requests[0]["temperature"] == 0
    assert router.get_model_list(model_name="team")[0]["litellm_params"]["api_key"] == "sk-from-environment"


GOOD = "model_list: [{model_name: a, litellm_params: {model: openai/x}}]\n"


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("- a\n", ["must be a mapping"]),
        ("", ["must be a mapping"]),
        ("model_list: [\n  {api_key: sk-do-not-print-me-0123456789\n", ["not valid YAML", "line"]),
        ("model_list: []\n", ["model_list", "at least one"]),
        ("model_list: [text]\n", ["model_list[0]", "mapping"]),
        ("model_list: [{litellm_params: {model: openai/x}}]\n", ["model_list[0].model_name"]),
        ("model_list: [{model_name: a}]\n", ["model_list[0] (a).litellm_params"]),
        ("model_list: [{model_name: a, litellm_params: {}}]\n", ["(a).litellm_params.model"]),
        ("model_list: [{model_name: a, litellm_params: {model: nobody-knows}}]\n", ["(a)", "nobody-knows", "provider"]),
        (
            "model_list: [{model_name: a, litellm_params: {model: openai/x, api_key: os.environ/RAG_UNSET_KEY}}]\n",
            ["(a).litellm_params.api_key", "RAG_UNSET_KEY", "not set"],
        ),
        (
            "model_list: [{model_name: offline-extractive, litellm_params: {model: openai/x}}]\n",
            ["model_list[0]", "taken"],
        ),
        (GOOD + "litellm_settings: {}\n", ["litellm_settings", "router_settings"]),
        (GOOD + "router_settings: [1]\n", ["router_settings"]),
        (GOOD + "router_settings: {fallback: []}\n", ["router_settings.fallback ", "fallbacks"]),
        (
            GOOD + "router_settings: {fallbacks: [{a: [b]}]}\n",
            ["router_settings.fallbacks", "'b'", "offline-extractive"],
        ),
        (GOOD + "router_settings: {fallbacks: [{a: b}]}\n", ["router_settings.fallbacks", "list"]),
        (GOOD + "router_settings: {fallbacks: [a]}\n", ["router_settings.fallbacks", "list"]),
        (GOOD + "router_settings: {default_fallbacks: [c]}\n", ["router_settings.default_fallbacks", "'c'"]),
        (GOOD + "router_settings: {routing_strategy: fastest}\n", ["router_settings"]),
        (GOOD, ["answers.model", "'missing'", "a, offline-extractive"]),
        ("model_list: !!python/object/apply:os.system [exit]\n", ["not valid YAML"]),
    ],
)
def test_every_mistake_in_the_list_names_file_entry_and_field(tmp_path: Path, content: str, named: list[str]) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(content, encoding="utf-8")
    model = "missing" if content == GOOD else "a"
    with pytest.raises(ConfigurationError) as error:
        build_router(AnswerSettings(models=path, model=model), embed)
    message = str(error.value)
    for text in [str(path), *named]:
        assert text in message
    assert SECRET not in message


def test_a_missing_file_is_named_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"absent\.yaml.*models\.example\.yaml"):
        build_router(AnswerSettings(models=tmp_path / "absent.yaml", model="a"), embed)


def test_without_a_list_only_the_offline_answerer_is_known() -> None:
    with pytest.raises(ConfigurationError, match=r"gpt-4.*answers\.models is not set.*offline-extractive"):
        build_router(AnswerSettings(model="gpt-4"), embed)


def test_the_example_file_builds() -> None:
    example = Path(__file__).parents[3] / "models.example.yaml"
    router = build_router(AnswerSettings(models=example, model="llama3.1"), embed)
    assert sorted(router.get_model_names()) == ["llama3.1", "offline-extractive"]


def test_importing_the_package_imports_no_litellm_and_building_is_silent() -> None:
    script = (
        "import sys, os\n"
        "import rag_assets.generation.answering, rag_assets.generation.router as router\n"
        "assert 'litellm' not in sys.modules\n"
        "from rag_assets.settings import AnswerSettings\n"
        "from rag_assets_tests.unit.generation.fakes import embed\n"
        "built = router.build_router(AnswerSettings(), embed)\n"
        f"text = built.completion(model='offline-extractive', messages={MESSAGES!r}).choices[0].message.content\n"
        f"assert text == {EXPECTED!r}, text\n"
        "assert os.environ['LITELLM_LOCAL_MODEL_COST_MAP'] == 'True' and os.environ['DO_NOT_TRACK'] == '1'\n"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_offline_answerer_abstains_word_for_word() -> None:
    messages = build_messages("Who won the world cup in Uruguay?", [Passage("The canteen opens at noon.")])
    response = offline().completion(model="offline-extractive", messages=messages)
    assert response.choices[0].message.content == ABSTENTION
