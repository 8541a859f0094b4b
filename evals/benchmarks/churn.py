"""From which share of changes on a new index beside the live one costs less than changing the live one in place.

    python evals/benchmarks/churn.py [--chunks 20000] [--shares 0.05 0.1 0.2 0.4]

One collection; for each share, as many documents are edited and synced in place, then as many others and synced with an index
built beside, each by a process of its own (``rag-assets sync`` with a hashing embedder, so that what is compared is ours: Dagster's
runs, loading, the graph, BM25, the checks before promotion). ``vacuum`` is what PostgreSQL has yet to do for the rows that a
sync left dead: clean the graph of them. It is found in the background sooner or later, beside whoever asks questions.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import psycopg
import scale

IN_PLACE, BESIDE = 1.0, 1e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=20_000)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.05, 0.1, 0.2, 0.4])
    options = parser.parse_args()

    def work(root: Path, url: str, server: psutil.Process, size: int, shares: list[float]) -> dict[str, Any]:
        return {"rows": measure(root, url, server, size, shares)}

    print(f"load average {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores; {options.chunks:,} chunks")
    print("| share of documents edited | in place, s | + vacuum, s | beside, s | + vacuum, s | in place / beside |")
    print("|---|---|---|---|---|---|", flush=True)
    scale.in_a_folder(work, options.chunks, options.shares)


def measure(root: Path, url: str, server: psutil.Process, chunks: int, shares: list[float]) -> list[dict[str, float]]:
    """Seconds of both ways by share, printed as they come."""
    scale.write_documents(root / "documents", chunks)
    variables = {name: value for name, value in os.environ.items() if not name.startswith("RAG_")}
    variables |= {"RAG_HOME": str(root / "home"), "RAG_SOURCE": str(root / "documents")}
    paths = sorted((root / "documents").rglob("*.md"))

    def synced(threshold: float) -> tuple[float, float]:
        settings = (
            f"[benchmark]\nenabled = false\n[sync]\nrebuild_change_share = {threshold}\nrebuild_change_rows = 0\n"
        )
        (root / "rag_assets.toml").write_text(settings, encoding="utf-8")
        command = [sys.executable, str(Path(scale.__file__).resolve()), "sync"]
        done = scale.measured(command, environment=variables, folder=root, server=server)
        began = time.perf_counter()
        with psycopg.connect(url, autocommit=True) as connection:
            live: Any = connection.execute("SELECT live_generation FROM rag.collection").fetchone()
            connection.execute(f"VACUUM rag.index_entry_g{int(live[0])}".encode())
        vacuum = time.perf_counter() - began
        print(json.dumps({"share": threshold, "rebuilt": done.reply["rebuilt_because"]}), file=sys.stderr, flush=True)
        return done.seconds, vacuum

    synced(IN_PLACE)
    rows = []
    for number, share in enumerate(shares):
        seconds = []
        for way, threshold in enumerate((IN_PLACE, BESIDE)):
            edit(paths, share, f"edit{number}{way}")
            seconds += synced(threshold)
        ratio = (seconds[0] + seconds[1]) / (seconds[2] + seconds[3])
        rows.append({"share": share, "ratio": ratio})
        print(f"| {share:.0%} | " + " | ".join(f"{value:.1f}" for value in seconds) + f" | {ratio:.2f} |", flush=True)
    return rows


def edit(paths: list[Path], share: float, word: str) -> None:
    """Change a word in every chunk of evenly spread documents, so that each has to be embedded and indexed again."""
    wanted = round(share * len(paths))
    for path in paths[:: max(1, len(paths) // wanted)][:wanted]:
        path.write_text(path.read_text("utf-8").replace("\n## Part", f"\n{word}\n\n## Part"), encoding="utf-8")


if __name__ == "__main__":
    main()
