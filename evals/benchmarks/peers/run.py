"""Against peers: the same documents, model, chunk size, HNSW parameters and PostgreSQL; each peer in an environment of its own.

    python evals/benchmarks/peers/run.py --documents 1000 --out peers.json

Frameworks: LlamaIndex (IngestionPipeline and PGVectorStore), LangChain (indexing API and PGVectorStore) and CocoIndex. Indexes alone:
hnswlib, FAISS, usearch. Every update is a fresh process, as in a cron job. A peer that can't be installed or fails is named with
the reason. Quality of the answers is no part of this: model and chunk size are the same.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import corpus
import psutil
import report
from environments import CannotInstall, prepare
from measuring import CommandFailed
from systems import Bench, Framework, Ours, measure, measure_index

from rag_assets.database.embedded import embedded
from rag_assets.database.location import existing_cluster
from rag_assets.embedding.hardware import usable_cores

REPOSITORY = Path(__file__).resolve().parents[3]
FRAMEWORKS = {
    "llama-index": "llama_index_worker.py",
    "langchain": "langchain_worker.py",
    "cocoindex": "cocoindex_worker.py",
}
INDEXES = ("hnswlib", "faiss-cpu", "usearch")
HOW = {
    report.OURS: "`rag-assets sync` with its defaults (OpenVINO, recursive chunks of 256 tokens, 32 overlapping, halfvec HNSW). It does more than "
    "the others: parses in a sandbox, builds a BM25 index, writes Dagster's events, compares the index with exact search and with "
    "the ledger before it goes live. Searched in mode `dense` through the pool, whole rows as hits.",
    "llama-index": "IngestionPipeline with SentenceSplitter, HuggingFaceEmbedding (32 texts a batch), SimpleDocumentStore and "
    "IngestionCache persisted to files, strategy UPSERTS_AND_DELETE, PGVectorStore with hnsw_kwargs (it creates the index with the "
    "table). Searched by PGVectorStore.query; question to hits by its retriever.",
    "langchain": "index() with SQLRecordManager in the same PostgreSQL, cleanup=\"full\", key_encoder=\"blake2b\", batch_size=1000; "
    "RecursiveCharacterTextSplitter by the model's tokens; PGVectorStore with apply_vector_index after the first load. Searched by "
    "similarity_search_by_vector; question to hits by similarity_search.",
    "cocoindex": "walk_dir, RecursiveSplitter (1,024 bytes, 128 overlapping), SentenceTransformerEmbedder (64 texts a batch), a memoised function "
    "per file, declare_vector_index(method=\"hnsw\"), state in LMDB. It has no query interface: searched by SQL through asyncpg.",
}  # fmt: skip
BF16 = (
    " Its model has bfloat16 weights: the number format that rag-assets chooses where the processor computes with it."
)


def main() -> None:
    options = arguments()
    cache = options.cache.resolve()
    root = Path(tempfile.mkdtemp(prefix="rag-peers-"))
    root.chmod(0o711)
    held = embedded(root / "server")
    try:
        url = held.acquire()
        cluster = existing_cluster(held.home)
        postmaster = cluster.postmaster() if cluster else None
        assert postmaster is not None
        original = corpus.prepare(options.data, REPOSITORY / "evals/sample", root, options.documents, options.questions)
        bench = Bench(root, original, url, psutil.Process(postmaster), environment(), options.repeats)
        result = {
            "documents": len(original.names()), "questions": len(original.questions), "cores": usable_cores(),
            "load": os.getloadavg()[0], "systems": compare(bench, original, cache, options),
        }  # fmt: skip
    finally:
        held.release()
        shutil.rmtree(root, ignore_errors=True)
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(report.markdown(result))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = REPOSITORY.parent / "shared" / "data"
    parser.add_argument(
        "--data", type=Path, default=default if default.is_dir() else None, help="folder of sets, or one set"
    )
    parser.add_argument("--documents", type=int, default=1000)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3, help="no-op updates after the first; their median counts")
    parser.add_argument("--only", nargs="*", help="names of peers (default: all)")
    parser.add_argument(
        "--dtypes", nargs="*", default=["float32", "bfloat16"], help="number formats of the frameworks' model"
    )
    parser.add_argument("--cache", type=Path, default=REPOSITORY / ".rag" / "peers")
    parser.add_argument("--out", type=Path, help="the figures as JSON")
    return parser.parse_args()


def environment() -> dict[str, str]:
    """That of every process that is measured: nothing asks the network, nothing of this shell's project leaks in."""
    mine = {
        name: value for name, value in os.environ.items() if not name.startswith("RAG_") or name == "RAG_MODEL_CACHE"
    }
    mine.pop("PYTHONPATH", None)
    return {**mine, "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "TOKENIZERS_PARALLELISM": "true"}


def compare(bench: Bench, original: corpus.Corpus, cache: Path, options: argparse.Namespace) -> dict[str, Any]:
    wanted = options.only if options.only is not None else [*FRAMEWORKS, *INDEXES]
    systems: dict[str, Any] = {}
    warm([sys.executable, "-c", WARM_OURS], bench.environment | {"PYTHONPATH": str(REPOSITORY)})
    ours = Ours(report.OURS, HOW[report.OURS], bench, Path(sys.executable), "rag_assets_worker.py", report.OURS)
    systems[report.OURS] = attempt(ours, original)
    for name in (name for name in FRAMEWORKS if name in wanted):
        try:
            made = prepare(name, cache)
        except CannotInstall as error:
            systems[name] = failed(str(error), "framework", HOW[name])
            continue
        warm([made.python, "-c", "import sentence_transformers"], bench.environment)
        for dtype in options.dtypes:
            label, how = (name, HOW[name]) if dtype == "float32" else (f"{name} {dtype}", HOW[name] + BF16)
            model = made.bundled_model()
            if dtype != "float32":
                model = made.convert(model, dtype, cache / name / dtype)
            systems[label] = attempt(Framework(label, how, bench, made.python, FRAMEWORKS[name], name, model), original)
    for name in (name for name in INDEXES if name in wanted):
        try:
            systems[name] = measure_index(name, prepare(name, cache), bench, usable_cores(), version(name))
        except (CannotInstall, CommandFailed) as error:
            systems[name] = failed(str(error), "index", version(name))
    return systems


WARM_OURS = (
    "import rag_assets.defs.local; from rag_assets.embedding import build_embedder; from rag_assets.settings import EmbedderSettings; "
    "build_embedder(EmbedderSettings()).embed_documents(['warm'])"
)
"""The model's conversion, made once for a machine, is not part of a build, nor is a peer's download of it."""


def warm(command: list[str | Path], variables: dict[str, str]) -> None:
    """Read the libraries from the disk once, for every system alike."""
    subprocess.run([str(part) for part in command], env=variables, check=True, capture_output=True)


def attempt(system: Framework, original: corpus.Corpus) -> dict[str, Any]:
    """Measure on a fresh copy of the documents; a failure is a row of the table."""
    copy = system.bench.root / "copies" / system.name.replace(" ", "-")
    shutil.copytree(original.folder, copy)
    system.bench = Bench(**{**vars(system.bench), "corpus": corpus.Corpus(copy, original.questions)})
    try:
        return measure(system, original.questions, system.bench.root)
    except CommandFailed as error:
        print(error, file=sys.stderr)
        return failed(str(error).strip().splitlines()[-1], "framework", system.how)


def failed(reason: str, kind: str, how: str) -> dict[str, Any]:
    return {"kind": kind, "how": how, "error": reason.replace("|", "\\|")}


def version(name: str) -> str:
    """What is pinned, and how it is used."""
    lines = (Path(__file__).parent / "requirements" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    pinned = next(line for line in lines if line.startswith(f"{name}=="))
    return f"{pinned}, float32 vectors of {report.OURS} in memory, all cores for the build, one for a search; deletion: {DELETION[name]}"


DELETION = {"hnswlib": "mark_deleted", "faiss-cpu": "its HNSW can't, the index is built again", "usearch": "remove"}

if __name__ == "__main__":
    main()
