"""What the default embedding backend costs in quality: nDCG@10 of every development set, beside the float32 reference.

    python evals/benchmarks/embedding_quality.py --data ../shared/data [--sets scifact cranfield] [--out FOLDER]

Both backends index every set through the product's own parser, chunker and store (``evals/retrieval.py``, mode ``dense``: nothing
but vectors) and answer the same questions; differences are paired, with 95 % bootstrap intervals over questions. Sets of few long
documents are scored by evidence recall in 4,000 characters instead. Allowed: 0.5 points (0.005) below the reference.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rag_assets.evaluation.metrics.statistics import paired_difference

REFERENCE = ("sentence-transformers", "float32")
MODE = "dense"
ALLOWED = 0.005


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of development sets")
    parser.add_argument("--sets", nargs="*", default=[])
    parser.add_argument("--embedder", nargs=2, default=("auto", "auto"), metavar=("BACKEND", "DTYPE"))
    parser.add_argument("--out", type=Path, help="keep each backend's scores by question here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        chosen = measured(options, tuple(options.embedder), folder / "chosen.json")
        reference = measured(options, REFERENCE, folder / "reference.json")
    print(f"| set (questions) | {' '.join(REFERENCE)} | {' '.join(options.embedder)} | difference |\n|---|---|---|---|")
    worst = 0.0
    for name, result in reference.items():
        scores, others = result["scores"][MODE], chosen[name]["scores"][MODE]
        moved = paired_difference(others, scores)
        worst = min(worst, moved.value or 0.0)
        spread = f" ({moved.low:+.4f} … {moved.high:+.4f})" if moved.low is not None else ""
        means = [statistics.mean(values.values()) for values in (scores, others)]
        print(f"| {name} ({len(scores)}) | {means[0]:.4f} | {means[1]:.4f} | {moved.value or 0.0:+.4f}{spread} |")
    print(f"\nworst set: {worst:+.4f}; allowed: {-ALLOWED:+.4f}: {'within' if worst >= -ALLOWED else 'NOT within'}")


def measured(options: argparse.Namespace, embedder: tuple[str, str], out: Path) -> dict[str, Any]:
    """Scores by set, mode and question with one backend."""
    script = Path(__file__).parents[1] / "retrieval.py"
    command = [sys.executable, str(script), "--data", str(options.data), "--modes", MODE, "--embedder", *embedder]
    command += ["--token-vectors", "computed", "--out", str(out)]
    if options.sets:
        command += ["--sets", *options.sets]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    main()
