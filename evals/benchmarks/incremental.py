"""What an update costs: a folder of N small files, then nothing, one edit, a rename, a metadata edit, a delete, 1 % edits.

    python evals/benchmarks/incremental.py --files 10000 --out incremental.json

Every figure is the wall time of the whole command `rag-assets sync --json`, process start included, with the embedded server up.
Writes are counted by PostgreSQL itself (pg_stat_user_tables), over every table of the project but not of Dagster.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg

from rag_assets.database.embedded import embedded

WORDS = [
    "index",
    "chunk",
    "vector",
    "query",
    "ledger",
    "shard",
    "plan",
    "schedule",
    "sensor",
    "report",
    "budget",
    "gate",
    "recall",
    "folder",
    "sync",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="rag-incremental-"))
    root.chmod(0o711)
    try:
        result = measure(root, options.files, options.repeats)
    finally:
        embedded(root / "home").release()
        shutil.rmtree(root, ignore_errors=True)
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"\n| {options.files:,} files | wall time, s | of it embedding, s | texts embedded | rows written |")
    print("|---|---|---|---|---|")
    for name, row in result["steps"].items():
        print(f"| {name} | {row['seconds']:.2f} | {row['embed']:.2f} | {row['computed']:,} | {row['writes']:,} |")


def measure(root: Path, files: int, repeats: int) -> dict[str, Any]:
    documents = root / "documents"
    rng = random.Random(0)
    for number in range(files):
        folder = documents / f"{number % 100:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"note-{number:06d}.md").write_text(note(rng, number), encoding="utf-8")
    bench = Bench(root, documents)
    steps = {"first sync": bench.sync()}
    # Median of several: the first no-op after a build also pays for a cold cache.
    steps["nothing changed"] = median([bench.sync() for _ in range(repeats)])
    steps["nothing changed, every file hashed (--verify)"] = bench.sync("--verify")
    target = documents / "07" / "note-000007.md"

    def edit(number: int) -> dict[str, Any]:
        target.write_text(note(rng, 7) + f"\nEdit {number}.\n", encoding="utf-8")
        return bench.sync()

    steps["one file edited"] = median([edit(number) for number in range(repeats)])
    target.rename(target.with_name("renamed.md"))
    steps["one file renamed"] = bench.sync()
    os.utime(documents / "08" / "note-000008.md", (1, 1))
    steps["one file touched, not changed"] = bench.sync()
    (documents / "09" / "note-000009.md").unlink()
    steps["one file deleted"] = bench.sync()
    for number in range(10, files, 100):
        (documents / f"{number % 100:02d}" / f"note-{number:06d}.md").write_text(note(rng, number), encoding="utf-8")
    steps["1 % of the files edited"] = bench.sync()
    return {"files": files, "steps": steps}


def note(rng: random.Random, number: int) -> str:
    """A document of its own: no two are alike, so nothing is embedded once for several."""
    sentences = [" ".join(rng.choices(WORDS, k=9)).capitalize() + f" {rng.randrange(10**6)}." for _ in range(5)]
    return f"# Note {number}\n\n{' '.join(sentences)}\n"


def median(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The row of median time, with the most that any of them did."""
    return {
        "seconds": statistics.median(row["seconds"] for row in rows),
        "embed": statistics.median(row["embed"] for row in rows),
        "computed": max(row["computed"] for row in rows),
        "writes": max(row["writes"] for row in rows),
        "all_seconds": [row["seconds"] for row in rows],
    }


class Bench:
    """Runs syncs of one folder and counts what they write."""

    def __init__(self, root: Path, documents: Path) -> None:
        self.environment = {**os.environ, "RAG_HOME": str(root / "home")}
        self.environment.pop("RAG_CONFIG", None)
        # What it costs to bring an index up to date, not to measure its speed.
        (root / "rag_assets.toml").write_text("[benchmark]\nenabled = false\n", encoding="utf-8")
        self.documents = documents
        self.folder = root
        self.url = embedded(root / "home").acquire()

    def sync(self, *options: str) -> dict[str, Any]:
        before = self.writes()
        began = time.perf_counter()
        command = [sys.executable, "-m", "rag_assets", "sync", "--source", str(self.documents), "--json", *options]
        done = subprocess.run(
            command, env=self.environment, cwd=self.folder, stdout=subprocess.PIPE, text=True, check=True
        )
        seconds = time.perf_counter() - began
        report = json.loads(done.stdout)
        row = {
            "seconds": seconds,
            "embed": report["seconds"]["embed"],
            "computed": report["embeddings"]["computed"],
            "writes": self.writes() - before,
        }
        print(f"{' '.join(options) or 'sync'}: {seconds:.2f} s, {report['documents']}", file=sys.stderr, flush=True)
        return row

    def writes(self) -> int:
        """Rows inserted, updated and deleted so far."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            time.sleep(1.2)  # sessions report their counts when they end, and once a second before that
            connection.execute("SELECT pg_stat_clear_snapshot()")
            row = connection.execute(
                "SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0) FROM pg_stat_user_tables WHERE schemaname = 'rag'"
            ).fetchone()
        assert row is not None
        return int(row[0])


if __name__ == "__main__":
    main()
