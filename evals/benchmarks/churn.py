"""From which share of changes on a new index beside the live one costs less than changing the live one in place.

    python evals/benchmarks/churn.py [--chunks 20000] [--shares 0.05 0.1 0.2 0.4] [--change edit|add|remove]

One collection; for each share, as many documents are changed and synced in place, then as many and synced with an index
built beside (what was added or removed is undone between), each by a process of its own (``rag-assets sync`` with a hashing
embedder, so that what is compared is ours: Dagster's runs, loading, the graph, BM25, the checks before promotion). ``vacuum`` is what PostgreSQL has yet to do for the rows that a
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

IN_PLACE, BESIDE = 9.0, 1e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=20_000)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.05, 0.1, 0.2, 0.4])
    parser.add_argument("--change", choices=("edit", "add", "remove"), default="edit")
    options = parser.parse_args()

    def work(root: Path, url: str, server: psutil.Process, size: int, shares: list[float]) -> dict[str, Any]:
        return {"rows": measure(root, url, server, size, shares, options.change)}

    print(f"load average {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores; {options.chunks:,} chunks")
    print(
        f"| {options.change}: share of documents | in place, s | + vacuum, s | beside, s | + vacuum, s | in place / beside |"
    )
    print("|---|---|---|---|---|---|", flush=True)
    scale.in_a_folder(work, options.chunks, options.shares)


def measure(
    root: Path, url: str, server: psutil.Process, chunks: int, shares: list[float], kind: str
) -> list[dict[str, float]]:
    """Seconds of both ways by share, printed as they come."""
    scale.write_documents(root / "documents", chunks)
    variables = {name: value for name, value in os.environ.items() if not name.startswith("RAG_")}
    variables |= {"RAG_HOME": str(root / "home"), "RAG_SOURCE": str(root / "documents")}
    paths = sorted((root / "documents").rglob("*.md"))

    def synced(threshold: float) -> tuple[float, float]:
        settings = (
            "[benchmark]\nenabled = false\n[sync]\nmax_vanished_share = 1\n"
            f"rebuild_change_share = {threshold}\nrebuild_change_rows = 0\n"
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
            change(paths, share, kind, f"edit{number}{way}")
            seconds += synced(threshold)
            if kind != "edit":
                for path in set((root / "documents").rglob("*.md")) - set(paths):
                    path.unlink()
                scale.write_documents(root / "documents", chunks)
                synced(IN_PLACE)
        ratio = (seconds[0] + seconds[1]) / (seconds[2] + seconds[3])
        rows.append({"share": share, "ratio": ratio})
        print(f"| {share:.0%} | " + " | ".join(f"{value:.1f}" for value in seconds) + f" | {ratio:.2f} |", flush=True)
    return rows


def change(paths: list[Path], share: float, kind: str, word: str) -> None:
    """Remove evenly spread documents, or change a word in every chunk of them or of copies, so that each is embedded and indexed."""
    wanted = round(share * len(paths))
    for path in paths[:: max(1, len(paths) // wanted)][:wanted]:
        if kind == "remove":
            path.unlink()
        else:
            text = path.read_text("utf-8").replace("\n## Part", f"\n{word}\n\n## Part")
            (path if kind == "edit" else path.with_name(f"{word}-{path.name}")).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
