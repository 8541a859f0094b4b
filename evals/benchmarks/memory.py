"""Peak memory of a first sync with the default model, as the collection grows.

    python evals/benchmarks/memory.py --chunks 10002 100800

``scale.py`` measures the product with an embedder that hashes; here the model itself is in the process. Texts are short (32 tokens a
chunk), so that a machine without a GPU has embedded 100,000 of them within the hour; what a longer text costs is the model's alone,
and does not grow with their number. A second collection has chunks as long as they get by default, so that the largest batch is seen.
Every sync is a process of its own; its memory is the resident memory of all its processes together, looked at ten
times a second; PostgreSQL's is beside it.
"""

import argparse
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import psutil
from peers.measuring import measured
from scale import in_a_folder

CHUNK_TOKENS = 32
WORDS_A_DOCUMENT, CHUNKS_A_DOCUMENT = 150, 6
WORDS = """
    time year people way day man thing woman life child world school state family student group country problem hand part place case week
    company system program question work government number night point home water room mother area money story fact month lot right study
    book eye job word business issue side kind head house service friend father power hour game line end member law car city community name
    president team minute idea kid body information back parent face others level office door health person art war history party result
""".split()  # noqa: SIM905  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, nargs="+", default=[10_002, 100_800])
    options = parser.parse_args()
    print(
        "| chunks (documents) | first sync, s | no-op, s | sync's peak memory, MB | PostgreSQL's, MB |\n|---|---|---|---|---|"
    )
    for size in options.chunks:
        row = in_a_folder(measure, size, 0)
        print(
            f"| {row['chunks']:,} ({row['documents']:,}) | {row['seconds']:.1f} | {row['no_op']:.2f} "
            f"| {row['client_mb']:,.0f} | {row['server_mb']:,.0f} |",
            flush=True,
        )


def measure(root: Path, url: str, server: psutil.Process, chunks: int, _: int) -> dict[str, Any]:
    """One size: what the first sync and one with nothing to do took."""
    write_documents(root / "documents", chunks)
    (root / "rag_assets.toml").write_text(
        f'[benchmark]\nenabled = false\n[chunking]\nstrategy = "sliding"\nmax_tokens = {CHUNK_TOKENS}\noverlap_tokens = 0\n'
        '[collections.short]\nsource = "documents/short"\n'
        '[collections.long]\nsource = "documents/long"\nchunking.max_tokens = 256\n',
        encoding="utf-8",
    )
    variables = {name: value for name, value in os.environ.items() if not name.startswith("RAG_")}
    variables["RAG_HOME"] = str(root / "home")

    def sync(collection: str) -> Any:
        command = [sys.executable, "-m", "rag_assets", "sync", "--collection", collection, "--json"]
        done = measured(command, environment=variables, folder=root, server=server)
        print(f"{time.strftime('%H:%M:%S')} {chunks:,} {collection} {done.seconds:.1f} s", file=sys.stderr, flush=True)
        return done

    build, no_op, long = sync("short"), sync("short"), sync("long")
    return {
        "chunks": build.reply["chunks"]["total"], "documents": build.reply["documents"]["added"], "seconds": build.seconds,
        "no_op": no_op.seconds, "client_mb": max(build.client_mb, long.client_mb), "server_mb": build.server_mb,
    }  # fmt: skip


def write_documents(folder: Path, chunks: int) -> None:
    """``short``: so many chunks of plain text; ``long``: 64 chunks of the default length."""
    chance = random.Random(1)
    for number in range(chunks // CHUNKS_A_DOCUMENT):
        path = folder / "short" / f"{number % 100:02d}" / f"note-{number:07d}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(" ".join(chance.choices(WORDS, k=WORDS_A_DOCUMENT)) + "\n", encoding="utf-8")
    (folder / "long").mkdir(parents=True)
    for number in range(2):
        (folder / "long" / f"{number}.txt").write_text(
            " ".join(chance.choices(WORDS, k=32 * 254)) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
