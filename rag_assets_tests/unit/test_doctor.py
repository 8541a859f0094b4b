"""What ``doctor`` finds, without the process around it."""

from pathlib import Path

import pytest

from rag_assets.doctor import examine

DEAD_MODEL = """
model_list:
  - model_name: dead
    litellm_params: {model: openai/dead, api_base: "http://127.0.0.1:9/v1", api_key: none}
"""


def test_a_model_that_is_not_in_the_list_is_named_with_those_that_are_and_hides_nothing_else(
    tmp_path: Path, source: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "a.txt").write_text("A document.\n", encoding="utf-8")
    (tmp_path / "models.yaml").write_text(DEAD_MODEL, encoding="utf-8")
    settings = '[collections.default]\nsource = "documents"\n[answers]\nmodels = "models.yaml"\nmodel = "unknown"\n'
    (tmp_path / "rag_assets.toml").write_text(settings, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RAG_POSTGRES_URL", postgres_url)

    findings = {found.name: found for found in examine()}

    assert {name for name, found in findings.items() if found.state == "broken"} == {"answering model"}
    assert "'unknown'" in findings["answering model"].text
    assert "Known: dead" in findings["answering model"].text
    assert {"settings", "home", "model", "database", "source of default"} < findings.keys()
