"""``embedder.backend = "auto"``, and what a model folder is taken for."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag_assets.embedding import build_embedder, chosen_backend
from rag_assets.embedding.hardware import Machine, this_machine, usable_cores
from rag_assets.embedding.local_model import LocalModelEmbedder
from rag_assets.embedding.model_files import model_folder
from rag_assets.embedding.pipeline import Pipeline, Pooling, UnsupportedPipeline, pool, read_pipeline
from rag_assets.settings import EmbedderSettings
from rag_assets_tests.unit.embedding.models import BUNDLED, MODULES, write_pipeline

SERVER = Machine(system="Linux", processor="x86_64", nvidia=False, openvino=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A supported model folder without weights."""
    write_pipeline(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "hidden_size": 64}))
    return tmp_path


def edit(path: Path, **values: Any) -> None:
    before = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**before, **values}))


class TestAuto:
    def test_it_is_openvino_for_the_bundled_model_on_a_plain_server(self) -> None:
        assert chosen_backend(model_folder(BUNDLED), SERVER) == "openvino"
        assert chosen_backend(model_folder(BUNDLED), replace(SERVER, processor="aarch64")) == "openvino"
        assert chosen_backend(model_folder(BUNDLED), replace(SERVER, system="Windows", processor="AMD64")) == "openvino"

    @pytest.mark.parametrize(
        "change", [{"nvidia": True}, {"openvino": False}, {"processor": "riscv64"}, {"system": "Darwin"}]
    )
    def test_it_is_sentence_transformers_on_other_machines(self, change: dict[str, Any]) -> None:
        assert chosen_backend(model_folder(BUNDLED), replace(SERVER, **change)) == "sentence-transformers"

    def test_it_is_mlx_on_apple_silicon_where_that_can_run_the_model(self, folder: Path) -> None:
        mac = replace(SERVER, system="Darwin", processor="arm64", mlx=True)
        assert chosen_backend(model_folder(BUNDLED), mac) == "mlx"
        assert chosen_backend(model_folder(BUNDLED), replace(mac, processor="x86_64")) == "sentence-transformers"
        assert chosen_backend(model_folder(BUNDLED), replace(SERVER, mlx=True)) == "openvino"
        assert chosen_backend(folder, mac) == "sentence-transformers"  # it has no weights

    def test_it_is_sentence_transformers_for_an_unknown_architecture(self, folder: Path) -> None:
        edit(folder / "config.json", model_type="qwen3")

        assert chosen_backend(folder, SERVER) == "sentence-transformers"

    def test_it_is_what_the_default_settings_build(self) -> None:
        embedder = build_embedder(EmbedderSettings())

        assert isinstance(embedder, LocalModelEmbedder)
        assert embedder.backend == chosen_backend(model_folder(BUNDLED), this_machine())

    @pytest.mark.parametrize("backend", ["openvino", "sentence-transformers"])
    def test_a_named_backend_is_taken_whatever_auto_would_be(self, backend: str) -> None:
        embedder = build_embedder(EmbedderSettings.model_validate({"backend": backend}))

        assert isinstance(embedder, LocalModelEmbedder)
        assert embedder.backend == backend


class TestPipelines:
    def test_the_bundled_model_is_mean_pooling_without_prompts(self) -> None:
        assert read_pipeline(model_folder(BUNDLED)) == Pipeline(pooling="mean", dimension=384)

    def test_prompts_and_pooling_are_read_in_old_and_new_spelling(self, folder: Path) -> None:
        edit(folder / "config_sentence_transformers.json", prompts={"query": "query: ", "passage": "unused"})
        edit(folder / "1_Pooling" / "config.json", pooling_mode=None, pooling_mode_cls_token=True)

        assert read_pipeline(folder) == Pipeline(pooling="cls", dimension=64, query_prompt="query: ")

    @pytest.mark.parametrize(
        ("file", "values", "reason"),
        [
            ("config.json", {"model_type": "nomic_bert"}, "nomic_bert"),
            ("config.json", {"auto_map": {"AutoModel": "x.Y"}}, "auto_map"),
            ("config.json", {"is_decoder": True}, "is_decoder"),
            ("adapter_config.json", {"peft_type": "LORA"}, "adapter"),
            ("sentence_bert_config.json", {"do_lower_case": True}, "lower-cases"),
            ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "fill-mask"),
            ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}, "SparseEncoder"),
            ("1_Pooling/config.json", {"pooling_mode": "lasttoken"}, "lasttoken"),
            ("1_Pooling/config.json", {"pooling_mode": ["cls", "mean"]}, r"cls \+ mean"),
            ("1_Pooling/config.json", {"include_prompt": False}, "prompt"),
        ],
    )
    def test_what_cannot_be_rebuilt_is_refused(
        self, folder: Path, file: str, values: dict[str, Any], reason: str
    ) -> None:
        read_pipeline(folder)
        edit(folder / file, **values)

        with pytest.raises(UnsupportedPipeline, match=reason):
            read_pipeline(folder)

    @pytest.mark.parametrize("modules", [(*MODULES, "Dense"), ("Transformer",), ("custom.Transformer", *MODULES[1:])])
    def test_other_modules_are_refused(self, folder: Path, modules: tuple[str, ...]) -> None:
        write_pipeline(folder, modules=modules)

        with pytest.raises(UnsupportedPipeline, match=r"modules\.json"):
            read_pipeline(folder)

    def test_a_folder_without_a_fast_tokenizer_is_refused(self, folder: Path) -> None:
        (folder / "tokenizer.json").unlink()

        with pytest.raises(UnsupportedPipeline, match=r"tokenizer\.json"):
            read_pipeline(folder)


@pytest.mark.parametrize(("pooling", "expected"), [("mean", [2.0, -3.0]), ("cls", [1.0, -2.0]), ("max", [3.0, -2.0])])
def test_pooling_leaves_padding_out(pooling: Pooling, expected: list[float]) -> None:
    states = np.array([[[1, -2], [3, -4], [99, 99]]], np.float32)

    assert pool(states, np.array([[1, 1, 0]]), pooling).tolist() == [expected]


@pytest.mark.parametrize(
    ("quota", "cores"), [("100000 100000", 1), ("50000 100000", 1), ("max 100000", None), ("nonsense", None)]
)
def test_a_containers_processor_quota_limits_the_cores(tmp_path: Path, quota: str, cores: int | None) -> None:
    (tmp_path / "cpu.max").write_text(quota)

    assert usable_cores(tmp_path / "cpu.max") == (cores or usable_cores(tmp_path / "missing"))


def test_the_longest_input_is_what_sentence_transformers_reads(folder: Path) -> None:
    build = lambda: build_embedder(EmbedderSettings(model=str(folder))).max_tokens  # noqa: E731
    assert build() == 128

    (folder / "sentence_bert_config.json").write_text("{}")
    edit(folder / "tokenizer_config.json", model_max_length=300)
    assert build() == 300

    edit(folder / "config.json", max_position_embeddings=200)
    assert build() == 200
