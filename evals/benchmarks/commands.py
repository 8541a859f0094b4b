"""What each command takes as a process of its own, start included: help, a sync with nothing to do or few edits, a search.

    python evals/benchmarks/commands.py --documents ../shared/data/hotpot/documents [--other CHECKOUT] [--rounds 5]

With ``--other`` the same commands of another checkout are run in turns with this one's, on the same index and with the same packages, so
that both meet the same machine. Medians of wall time and of processor time (of the process and its parsers), seconds; and what the
runs of single shards within those syncs took by Dagster's own clock.
"""

import argparse
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from rag_assets.database.embedded import embedded

HERE = Path(__file__).resolve().parents[2]
SETTINGS = "[benchmark]\nenabled = false\n[sync]\nsensor_seconds = 5\n"
Times = dict[tuple[Any, Path], list[Any]]
"""(what was done, checkout) -> what was measured, by round."""
SEARCH = ("search", "who was the first to do it", "--json")
STEPS = {
    "--help": (0, ("--help",)), "nothing changed": (0, ("sync", "--json")),
    "nothing changed again": (0, ("sync", "--json")), "search": (0, SEARCH),
    "one file edited": (1, ("sync", "--json")), "ten files edited": (10, ("sync", "--json")),
}  # fmt: skip
"""Name -> (files edited before, arguments)."""
_RUNS = "SELECT end_time - extract(epoch FROM create_timestamp) FROM dagster.runs WHERE status = 'SUCCESS' AND id > %s"


def main() -> None:
    compare(__doc__, 5, measure, report)


def compare(
    text: str | None,
    rounds: int,
    measure: Callable[[Path, list[Path], list[Path], int], Times],
    report: Callable[[Times, list[Path]], None],
) -> None:
    """Index a copy of the documents in a home of its own, measure this checkout, and the other if one is named, and report."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=Path, required=True, help="a folder of text or Markdown files")
    parser.add_argument("--other", type=Path, help="another checkout of this project")
    parser.add_argument("--rounds", type=int, default=rounds)
    options = parser.parse_args()
    trees = [HERE, *([options.other.resolve()] if options.other else [])]
    root = Path(tempfile.mkdtemp(prefix="rag-benchmark-"))
    root.chmod(0o711)
    server = embedded(root / "home")
    try:
        server.acquire()
        shutil.copytree(options.documents, root / "documents")
        (root / "rag_assets.toml").write_text(SETTINGS, encoding="utf-8")
        run(HERE, root, ("sync", "--source", str(root / "documents"), "--json"))
        files = sorted(path for path in (root / "documents").rglob("*") if path.suffix in (".txt", ".md"))
        report(measure(root, files, trees, options.rounds), trees)
    finally:
        server.destroy()
        shutil.rmtree(root, ignore_errors=True)


def measure(root: Path, files: list[Path], trees: list[Path], rounds: int) -> Times:
    """(step, checkout) -> (wall time, processor time) of each round; the first, in which files are compiled, does not count."""
    times: Times = defaultdict(list)
    chance = random.Random(1)
    url = embedded(root / "home").acquire()
    for number in range(rounds + 1):
        for tree in trees if number % 2 else trees[::-1]:
            for step, (edits, arguments) in STEPS.items():
                for path in chance.sample(files, edits):
                    text = path.read_text(encoding="utf-8").rstrip()
                    path.write_text(f"{text}\n\nA note of round {number}: {chance.random()}.\n", encoding="utf-8")
                with psycopg.connect(url) as connection:
                    last: Any = connection.execute("SELECT coalesce(max(id), 0) FROM dagster.runs").fetchone()
                taken = run(tree, root, arguments)
                if not number:
                    continue
                times[step, tree].append(taken)
                with psycopg.connect(url) as connection:
                    times["shard", tree] += [float(row[0]) for row in connection.execute(_RUNS, last)]
    return times


def run(tree: Path, root: Path, arguments: tuple[str, ...]) -> tuple[float, float]:
    """(wall time, processor time) of one command of a checkout."""
    before, began = processor_time(), time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "rag_assets", *arguments],
        cwd=root,
        env=environment(root, tree),
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - began, processor_time() - before


def environment(root: Path, tree: Path) -> dict[str, str]:
    """Of a process of a checkout: nothing of this shell's project leaks in."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAG_")}
    # As users have it: what Python compiled is kept.
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return kept | {"RAG_HOME": str(root / "home"), "PYTHONPATH": str(tree)}


def processor_time() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def report(times: Times, trees: list[Path]) -> None:
    names = " | ".join(f"{tree.name}: wall, s | processor time, s" for tree in trees)
    print(f"| command | {names} |\n|---|{'---|---|' * len(trees)}")
    for step in STEPS:
        cells = [
            f"{statistics.median(column):.2f}" for tree in trees for column in zip(*times[step, tree], strict=True)
        ]
        print(f"| {step} | {' | '.join(cells)} |")
    for tree in trees:
        runs = times["shard", tree]
        print(f"\n{tree.name}: {len(runs)} runs of a shard, created to ended: median {statistics.median(runs):.2f} s")


if __name__ == "__main__":
    main()
