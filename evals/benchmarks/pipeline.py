"""What a full sync costs beside the embedding it can't do without: parse, chunk, embed, load, build, judge, in one ratio.

    python evals/benchmarks/pipeline.py --documents FOLDER [--repeats 3] [--out pipeline.json]

Each repeat syncs the folder into an empty home (``rag-assets sync --json`` as a process of its own, start-up included, embedded
server up), then embeds the same texts with the same backend in a process of its own that does nothing else: its time is from the
first text to the last vector, with the model loaded. Both are given as wall time and as processor time (of all processes: parsers
and PostgreSQL too), since other work on the machine stretches the former.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import psycopg

from rag_assets.database.embedded import embedded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--embed", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.embed:
        embed_alone(options.embed)
        return
    rows = [measure(options.documents.absolute()) for _ in range(options.repeats)]
    if options.out:
        options.out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    print(f"load average {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores")
    print("| | sync, s | embedding alone, s | ratio |\n|---|---|---|---|")
    for kind in ("wall", "cpu"):
        sync = statistics.median(row[f"sync_{kind}"] for row in rows)
        alone = statistics.median(row[f"alone_{kind}"] for row in rows)
        ratio = statistics.median(row[f"sync_{kind}"] / row[f"alone_{kind}"] for row in rows)
        print(f"| {kind} time | {sync:.1f} | {alone:.1f} | {ratio:.2f} |")
    last = rows[-1]
    print(f"\n{last['documents']:,} documents, {last['chunks']:,} chunks, {last['texts']:,} texts embedded")
    print(f"peak memory of sync {max(row['peak_mib'] for row in rows):,.0f} MiB; its stages: {last['stages']}")
    print(f"processor time by process: {last['cpu_by']}")


def measure(documents: Path) -> dict[str, Any]:
    root = Path(tempfile.mkdtemp(prefix="rag-pipeline-"))
    root.chmod(0o711)
    # What it costs to bring an index up to date, not to measure its speed.
    (root / "rag_assets.toml").write_text("[benchmark]\nenabled = false\n", encoding="utf-8")
    server = embedded(root / "home")
    try:
        url = server.acquire()
        return {**sync(root, documents), **alone(root, url)}
    finally:
        server.destroy()
        shutil.rmtree(root, ignore_errors=True)


def sync(root: Path, documents: Path) -> dict[str, Any]:
    environment = {**os.environ, "RAG_HOME": str(root / "home")}
    environment.pop("RAG_CONFIG", None)
    before, served = cpu_of_children(), server_seconds(root)
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "rag_assets", "sync", "--source", str(documents), "--json"],
        env=environment, cwd=root, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    wall = time.perf_counter() - began
    client, server = cpu_of_children() - before, server_seconds(root) - served
    report = json.loads(done.stdout)
    return {
        "sync_wall": wall,
        "sync_cpu": client + server,
        "cpu_by": {"rag-assets and parsers": round(client, 1), "postgres": round(server, 1)},
        "documents": report["documents"]["added"],
        "chunks": report["chunks"]["total"],
        "texts": report["embeddings"]["computed"],
        "stages": report["seconds"],
        "peak_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }


def cpu_of_children() -> float:
    """Processor seconds of every child that has ended, and of its own children."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def server_seconds(root: Path) -> float:
    """Processor seconds of the server, sessions that have ended included."""
    time.sleep(0.5)  # the postmaster counts a session when it has ended
    pid_file = next((root / "home").rglob("postmaster.pid"))
    parent = psutil.Process(int(pid_file.read_text(encoding="utf-8").splitlines()[0]))
    own = parent.cpu_times()
    running = [child.cpu_times() for child in parent.children(recursive=True)]
    return own.user + own.system + own.children_user + own.children_system + sum(t.user + t.system for t in running)


def alone(root: Path, url: str) -> dict[str, Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT DISTINCT ON (text_hash) CASE context WHEN '' THEN '' ELSE context || E'\\n' END || coalesce(embedded, text)"
            " FROM rag.chunk"
        ).fetchall()
    texts = root / "texts.json"
    texts.write_text(json.dumps([row[0] for row in rows]), encoding="utf-8")
    done = subprocess.run([sys.executable, __file__, "--documents", str(root), "--embed", str(texts)],
                          stdout=subprocess.PIPE, text=True, check=True)  # fmt: skip
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def embed_alone(path: Path) -> None:
    """Embed every text, in one call; prints the seconds."""
    from rag_assets.embedding import build_embedder
    from rag_assets.settings import EmbedderSettings

    texts = json.loads(path.read_text(encoding="utf-8"))
    embedder = build_embedder(EmbedderSettings())
    embedder.embed_documents(texts[:64])
    wall, cpu = time.perf_counter(), time.process_time()
    embedder.embed_documents(texts)
    print(json.dumps({"alone_wall": time.perf_counter() - wall, "alone_cpu": time.process_time() - cpu}))


if __name__ == "__main__":
    main()
