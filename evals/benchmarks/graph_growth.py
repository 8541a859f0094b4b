"""How far the growth of a search is the machine's: hnswlib, in this machine's memory, over the vectors of ``scale.py``.

    python evals/benchmarks/graph_growth.py [--sizes 1000 3000 10000 30000 100000] [--ef 100]

Nothing but the walk of a graph with the same parameters: no server, no rows, no words.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import scale
import scale_report
from peers.environments import WORKERS, prepare
from peers.measuring import measured

from rag_assets.embedding.hardware import usable_cores
from rag_assets.settings import IndexSettings

LIBRARY = "hnswlib"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1000, 3000, 10_000, 30_000, 100_000])
    parser.add_argument("--ef", type=int, default=IndexSettings().ef_search)
    parser.add_argument("--cache", type=Path, default=scale.REPOSITORY / ".rag" / "peers")
    options = parser.parse_args()
    environment = prepare(LIBRARY, options.cache.resolve())
    embedder = scale.HashingEmbedder()
    queries = embedder.vectors([10**12 + number for number in range(scale.QUERIES)])
    settings = IndexSettings()
    asked = {
        "m": settings.m, "ef_construction": settings.ef_construction, "efs": [options.ef], "threads": usable_cores(),
    }  # fmt: skip
    p95: list[float] = []
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            np.save(folder / "rows.npy", embedder.vectors([number * 2_654_435_761 for number in range(size)]))
            np.save(folder / "queries.npy", queries)
            request = {
                **asked,
                **{name: str(folder / f"{name}.npy") for name in ("rows", "queries")},
                "file": str(folder / "index"),
            }
            path = folder / "request.json"
            path.write_text(json.dumps(request), encoding="utf-8")
            command = [environment.python, WORKERS / "index_worker.py", LIBRARY, path]
            done = measured(command, environment={}, folder=folder, server=None)
        times = done.reply["points"][0]["milliseconds"]
        p95.append(float(np.percentile(times, 95)))
        print(f"{size:,} vectors: p50 {np.percentile(times, 50):.3f} ms, p95 {p95[-1]:.3f} ms", flush=True)
    if len(p95) > 1:
        print(f"p95 grows with n^{scale_report.fit(options.sizes, p95).text()}")


if __name__ == "__main__":
    main()
