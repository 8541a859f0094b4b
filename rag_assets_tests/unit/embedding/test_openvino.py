"""The OpenVINO backend beside sentence-transformers, which it must agree with."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from rag_assets.embedding.openvino import OpenVinoEmbedder
from rag_assets.embedding.sentence_transformers import SentenceTransformersEmbedder
from rag_assets.errors import ConfigurationError
from rag_assets.settings import EmbedderSettings
from rag_assets_tests.unit.embedding.models import BUNDLED, write_pipeline

TEXTS = [
    "The pump's seal is replaced every 2,000 operating hours; see the maintenance log.",
    "Größe und naïve Überprüfung – 50 % of the cases.",
    "x",
    "",
    "A deleted document must not answer. " * 200,
    "Short text.",
]

IN_A_NEW_PROCESS = """
import json, sys
from rag_assets.embedding import build_embedder
from rag_assets.settings import EmbedderSettings
embedder = build_embedder(EmbedderSettings(dtype="float32"))
fingerprint, before = embedder.fingerprint, sorted(sys.modules)
vector = embedder.embed_queries(["x"])[0].tolist()
print(json.dumps({"fingerprint": fingerprint, "modules": sorted(sys.modules), "before": before, "vector": vector}))
"""


def embedders(
    model: str | Path = BUNDLED, dtype: str = "float32"
) -> tuple[OpenVinoEmbedder, SentenceTransformersEmbedder]:
    settings = EmbedderSettings.model_validate({"model": str(model), "dtype": dtype})
    return OpenVinoEmbedder(settings), SentenceTransformersEmbedder(settings)


@pytest.mark.usefixtures("named_model_cache")
class TestVectors:
    @pytest.mark.parametrize(("dtype", "floor"), [("float32", 0.99999), ("bfloat16", 0.999)])
    def test_they_are_those_of_sentence_transformers_in_float32(self, dtype: str, floor: float) -> None:
        ours = embedders(dtype=dtype)[0].embed_documents(TEXTS)
        theirs = embedders()[1].embed_documents(TEXTS)

        assert (ours * theirs).sum(axis=1).min() >= floor

    def test_they_do_not_depend_on_the_other_texts_of_a_batch(self) -> None:
        embedder = embedders(dtype="bfloat16")[0]

        together = embedder.embed_documents(TEXTS)
        backwards = embedder.embed_documents(TEXTS[::-1])[::-1]
        alone = np.concatenate([embedder.embed_documents([text]) for text in TEXTS])

        assert np.abs(together - alone).max() < 1e-2
        assert np.abs(together - backwards).max() < 1e-2

    def test_a_list_longer_than_a_window_keeps_its_order(self) -> None:
        embedder = embedders()[0]
        texts = [f"number {n}" for n in range(1030)]

        vectors = embedder.embed_documents(texts)

        picked = [0, 1023, 1024, 1029]
        alone = embedder.embed_documents([texts[n] for n in picked])
        assert np.abs(vectors[picked] - alone).max() < 1e-4

    def test_words_beyond_the_models_limit_change_nothing(self) -> None:
        embedder = embedders()[0]
        long = "alpha beta gamma " * 200

        vectors = embedder.embed_documents([long, long + " omega"])

        assert embedder.count_tokens([long])[0] > embedder.max_tokens
        assert np.array_equal(vectors[0], vectors[1])

    def test_threads_get_the_vectors_of_their_own_texts(self) -> None:
        embedder = embedders()[0]
        expected = embedder.embed_queries(TEXTS)
        wrong: list[int] = []

        def ask(number: int) -> None:
            for _ in range(10):
                if np.abs(embedder.embed_queries([TEXTS[number]])[0] - expected[number]).max() > 1e-4:
                    wrong.append(number)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(TEXTS))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert wrong == []

    def test_the_models_prompts_and_its_pooling_are_honoured(self, tiny: Path) -> None:
        ours, theirs = embedders(tiny)

        for kind in ("embed_queries", "embed_documents"):
            cosines = (getattr(ours, kind)(TEXTS) * getattr(theirs, kind)(TEXTS)).sum(axis=1)
            assert cosines.min() >= 0.9999
        assert (ours.embed_queries(TEXTS) * ours.embed_documents(TEXTS)).sum(axis=1).min() < 0.999
        assert ours.dimension == theirs.dimension == 64


@pytest.mark.usefixtures("named_model_cache")
class TestProcesses:
    def test_a_new_process_with_a_warm_cache_imports_no_pytorch_and_agrees_on_the_fingerprint(self) -> None:
        embedder = embedders()[0]
        vector = embedder.embed_queries(["x"])[0]

        result = subprocess.run([sys.executable, "-c", IN_A_NEW_PROCESS], capture_output=True, text=True, check=True)
        said = json.loads(result.stdout)

        heavy = {"torch", "sentence_transformers", "transformers"}
        assert heavy.isdisjoint(said["modules"])
        assert "openvino" in said["modules"]
        assert "openvino" not in said["before"]
        assert said["fingerprint"] == embedder.fingerprint
        assert np.abs(np.array(said["vector"]) - vector).max() < 1e-5

    def test_openvino_is_imported_without_its_telemetry(self) -> None:
        script = (
            "from rag_assets.embedding.openvino_runtime import import_openvino; import sys; import_openvino().Core();"
            "print(sorted(m for m, v in sys.modules.items() if m.startswith('openvino_telemetry') and v))"
        )
        result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

        assert result.stdout.strip() == "[]"


class TestFingerprints:
    def test_they_differ_between_backends_and_number_types(self) -> None:
        made = [embedder.fingerprint for dtype in ("float32", "bfloat16") for embedder in embedders(dtype=dtype)]

        assert len(set(made)) == 4

    def test_the_batch_size_is_not_part_of_them(self) -> None:
        one, other = (OpenVinoEmbedder(EmbedderSettings(batch_size=size)) for size in (4, 64))

        assert one.fingerprint == other.fingerprint

    def test_changing_the_prompts_changes_them(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "hidden_size": 64}))
        write_pipeline(tmp_path)
        before = embedders(tmp_path)[0].fingerprint

        (tmp_path / "config_sentence_transformers.json").write_text(json.dumps({"prompts": {"query": "q: "}}))

        assert embedders(tmp_path)[0].fingerprint != before

    def test_chunk_borders_depend_on_no_backend(self) -> None:
        ours, theirs = embedders()

        assert ours.tokenizer_fingerprint == theirs.tokenizer_fingerprint
        assert ours.max_tokens == theirs.max_tokens == 256
        assert ours.count_tokens(TEXTS) == theirs.count_tokens(TEXTS)


def test_a_model_it_cannot_run_is_refused_with_the_reason_and_the_cure(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3", "hidden_size": 64}))
    write_pipeline(tmp_path)

    with pytest.raises(ConfigurationError, match=r"'qwen3'.*Set embedder\.backend to 'auto' or"):
        OpenVinoEmbedder(EmbedderSettings(backend="openvino", model=str(tmp_path)))
