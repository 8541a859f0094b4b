"""Speed, fidelity and quality of the embedding backends, each in a process of its own.

    python evals/benchmarks/embedding.py --data /work/shared/data

``texts/s`` is the better of two passes over the chunks (about 700 characters). ``cosine`` is to sentence-transformers in
float32, over chunks and questions. ``start`` is a new process up to its first vector with everything cached, imports
included; ``query`` the median of single questions. ``nDCG@10`` is exact search over whole documents of ``--ndcg``.
Other load on the machine slows every row alike only on average: compare rows, and read the load printed above them.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

BACKENDS = (
    ("sentence-transformers", "float32"),
    ("sentence-transformers", "bfloat16"),
    ("openvino", "float32"),
    ("openvino", "bfloat16"),
)
CHUNK_CHARACTERS = 700
QUERIES_TIMED = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of sets: <set>/documents, <set>/questions.jsonl"
    )
    parser.add_argument("--chunks", type=int, default=240)
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--ndcg", default="", help="set whose documents are searched as well, such as cranfield")
    parser.add_argument("--child", nargs=2, metavar=("BACKEND", "DTYPE"), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        measure(arguments)
    else:
        compare(arguments)


def compare(arguments: argparse.Namespace) -> None:
    """Run every backend in turn and print the table."""
    import tempfile

    print(f"load average {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores")
    print("backend                 dtype     texts/s  cosine mean / min   peak RSS  start   query  nDCG@10")
    reference: npt.NDArray[np.float32] | None = None
    with tempfile.TemporaryDirectory() as folder:
        for backend, dtype in BACKENDS:
            out = Path(folder) / f"{backend}-{dtype}.npz"
            run(arguments, backend, dtype, out)  # converts, fills the file cache, and gives vectors and speed
            start = start_seconds(backend, dtype)
            measured = np.load(out)
            vectors = measured["vectors"]
            reference = vectors if reference is None else reference
            cosine = (vectors * reference).sum(axis=1)
            ndcg = f"{float(measured['ndcg']):.4f}" if arguments.ndcg else "-"
            print(
                f"{backend:<23} {dtype:<9} {float(measured['speed']):7.0f}  {cosine.mean():.5f} / {cosine.min():.5f}  "
                f"{float(measured['rss']):5.0f} MB  {start:4.1f} s  {float(measured['query']):4.1f} ms  {ndcg}",
                flush=True,
            )


def run(arguments: argparse.Namespace, backend: str, dtype: str, out: Path) -> None:
    passed = ["--data", str(arguments.data), "--chunks", str(arguments.chunks), "--questions", str(arguments.questions)]
    command = [
        sys.executable,
        __file__,
        *passed,
        "--ndcg",
        arguments.ndcg,
        "--child",
        backend,
        dtype,
        "--out",
        str(out),
    ]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def start_seconds(backend: str, dtype: str) -> float:
    """Wall time of a new process that embeds one question; the better of two."""
    script = (
        "from rag_assets.embedding import build_embedder; from rag_assets.settings import EmbedderSettings;"
        f"build_embedder(EmbedderSettings(backend={backend!r}, dtype={dtype!r})).embed_queries(['x'])"
    )
    taken = []
    for _ in range(2):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", script], check=True, stderr=subprocess.DEVNULL)
        taken.append(time.perf_counter() - started)
    return min(taken)


def measure(arguments: argparse.Namespace) -> None:
    """The measurements of one backend, in this process, written to ``arguments.out``."""
    from rag_assets.embedding import build_embedder
    from rag_assets.settings import EmbedderSettings

    backend, dtype = arguments.child
    embedder = build_embedder(EmbedderSettings(backend=backend, dtype=dtype))
    chunks, questions = read_texts(arguments.data, arguments.chunks, arguments.questions)
    embedder.embed_queries(["x"])
    taken = []
    for _ in range(2):
        started = time.perf_counter()
        vectors = embedder.embed_documents(chunks)
        taken.append(time.perf_counter() - started)
    asked, latencies = [], []
    for question in questions:
        started = time.perf_counter()
        asked.append(embedder.embed_queries([question])[0])
        latencies.append(time.perf_counter() - started)
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
    np.savez(
        arguments.out,
        vectors=np.vstack([vectors, *asked]),
        speed=len(chunks) / min(taken),
        query=1000 * float(np.median(latencies[-QUERIES_TIMED:])),
        rss=rss,
        ndcg=ndcg_at_10(embedder, arguments.data / arguments.ndcg) if arguments.ndcg else np.nan,
    )


def read_texts(data: Path, chunks: int, questions: int) -> tuple[list[str], list[str]]:
    """The same number of chunks and questions of every set that has plain-text documents."""
    sets = sorted(
        folder.parent for folder in data.glob("*/questions.jsonl") if any(folder.parent.glob("documents/*.txt"))
    )
    cut, asked = [], []
    for folder in sets:
        pieces = [
            text[start : start + CHUNK_CHARACTERS]
            for path in sorted(folder.glob("documents/*.txt"))[: chunks // len(sets)]
            for text in [path.read_text(encoding="utf-8")]
            for start in range(0, max(1, len(text) - CHUNK_CHARACTERS // 2), CHUNK_CHARACTERS)
        ]
        cut += pieces[: -(-chunks // len(sets))]
        lines = (folder / "questions.jsonl").read_text(encoding="utf-8").splitlines()
        asked += [json.loads(line)["question"] for line in lines[: -(-questions // len(sets))]]
    return cut[:chunks], asked[:questions]


def ndcg_at_10(embedder: Any, folder: Path) -> float:
    """Mean nDCG@10 (linear gain, log2 discount) of exact cosine search over the whole documents of a set."""
    paths = sorted((folder / "documents").iterdir())
    documents = embedder.embed_documents([path.read_text(encoding="utf-8") for path in paths])
    questions = [json.loads(line) for line in (folder / "questions.jsonl").read_text(encoding="utf-8").splitlines()]
    vectors = embedder.embed_queries([question["question"] for question in questions])
    discounts = 1 / np.log2(np.arange(2, 12))
    scores = []
    for question, vector in zip(questions, vectors, strict=True):
        grades = {label["document"]: float(label.get("grade", 1)) for label in question["relevant"]}
        best = np.argsort(-(documents @ vector), kind="stable")[:10]
        gains = np.array([grades.get(paths[row].name, 0.0) for row in best])
        ideal = np.array(sorted(grades.values(), reverse=True)[:10])
        if ideal.size and ideal[0] > 0:
            scores.append(float(gains @ discounts[: gains.size] / (ideal @ discounts[: ideal.size])))
    return float(np.mean(scores))


if __name__ == "__main__":
    main()
