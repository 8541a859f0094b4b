"""How soon what is saved can be found while ``rag-assets up`` runs: the sensor's tick, Dagster's runs, and what those do.

    python evals/benchmarks/following.py --documents ../shared/data/hotpot/documents [--other CHECKOUT] [--rounds 3]

Files are edited at a random moment of the sensor's interval (``sync.sensor_seconds = 5``, the shortest). Given are, as medians: the
seconds until the live index holds every new word, and of Dagster's runs the seconds from a run's creation to the beginning of its first
step, to its end, and the processor time of everything but PostgreSQL that was spent meanwhile. With ``--other`` another checkout
follows the same folder in turns with this one.
"""

import random
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
from commands import Times, compare, environment

from rag_assets.database.embedded import embedded

EDITED = (1, 10)
"""Files edited at once."""
PATIENCE = 300.0
_RUNS = """
    SELECT extract(epoch FROM r.create_timestamp), r.start_time, r.end_time,
        (SELECT extract(epoch FROM min(e.timestamp)) FROM dagster.event_logs e
         WHERE e.run_id = r.run_id AND e.dagster_event_type = 'STEP_START')
    FROM dagster.runs r WHERE r.id > %s AND r.status = 'SUCCESS'
"""


def main() -> None:
    compare(__doc__, 3, measure, report)


def measure(root: Path, files: list[Path], trees: list[Path], rounds: int) -> Times:
    """(files edited, checkout) -> what was measured, by round; the first of each start of ``up`` does not count."""
    chance = random.Random(1)
    found: Times = defaultdict(list)
    url = embedded(root / "home").acquire()
    for tree in trees:
        with running(root, tree) as process, psycopg.connect(url, autocommit=True) as connection:
            follow(connection, process, chance.sample(files, 1), chance)
            for _ in range(rounds):
                for edits in EDITED:
                    found[edits, tree].append(follow(connection, process, chance.sample(files, edits), chance))
    return found


@contextmanager
def running(root: Path, tree: Path) -> Iterator[psutil.Process]:
    """``rag-assets up`` of a checkout, from when it is ready until the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "rag_assets", "up", "--no-browser", "--port", str(port), "--reports-port", "0"]
    log = (root / "up.log").open("ab")
    process = subprocess.Popen(command, cwd=root, env=environment(root, tree), stdout=log, stderr=log)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
        log.close()


def follow(
    connection: "psycopg.Connection[Any]", process: psutil.Process, files: list[Path], chance: random.Random
) -> dict[str, float]:
    """Edit the files and wait until the live index holds what was written."""
    time.sleep(chance.uniform(3, 8))
    last: Any = connection.execute("SELECT coalesce(max(id), 0) FROM dagster.runs").fetchone()
    word = f"w{chance.getrandbits(60):x}"
    spent, began = processor_time(process), time.perf_counter()
    for path in files:
        path.write_text(f"{path.read_text(encoding='utf-8').rstrip()}\n\nA note: {word}.\n", encoding="utf-8")
    while held(connection, word) < len(files):
        if time.perf_counter() - began > PATIENCE:
            raise SystemExit(f"Not followed within {PATIENCE:.0f} s.")
        time.sleep(0.1)
    seconds = time.perf_counter() - began
    while connection.execute("SELECT 1 FROM dagster.runs WHERE status IN ('QUEUED', 'STARTING', 'STARTED')").fetchone():
        time.sleep(0.1)
    time.sleep(2)
    runs = connection.execute(_RUNS, last).fetchall()
    return {
        "found": seconds,
        "begun": statistics.median(float(first) - float(created) for created, _, _, first in runs),
        "ended": statistics.median(float(end) - float(created) for created, _, end, _ in runs),
        "processor": processor_time(process) - spent,
        "runs": len(runs),
    }


def held(connection: "psycopg.Connection[Any]", word: str) -> int:
    """Documents of the live index with the word in their text."""
    row: Any = connection.execute(
        "SELECT count(DISTINCT e.doc_id) FROM rag.index_entry e JOIN rag.generation g ON g.id = e.generation_id"
        " WHERE g.state = 'live' AND e.text LIKE %s",
        (f"%{word}%",),
    ).fetchone()
    return int(row[0])


def processor_time(process: psutil.Process) -> float:
    """Of a process and all below it, what has ended there included as far as its parent has waited for it."""
    total = 0.0
    for each in (process, *process.children(recursive=True)):
        try:
            used = each.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += used.user + used.system + used.children_user + used.children_system
    return total


def report(found: Times, trees: list[Path]) -> None:
    columns = {
        "found": "found after, s", "begun": "a run's first step after, s", "ended": "a run's end after, s",
        "processor": "processor time, s", "runs": "runs",
    }  # fmt: skip
    print(f"| edited | checkout | {' | '.join(columns.values())} |\n|---|---|{'---|' * len(columns)}")
    for edits in EDITED:
        for tree in trees:
            rows = found[edits, tree]
            cells = [f"{statistics.median(row[name] for row in rows):.1f}" for name in columns]
            spread = f"{min(row['found'] for row in rows):.1f}-{max(row['found'] for row in rows):.1f}"
            print(f"| {edits} | {tree.name} | {cells[0]} ({spread}) | {' | '.join(cells[1:])} |")


if __name__ == "__main__":
    main()
