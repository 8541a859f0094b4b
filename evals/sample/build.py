"""Build the sample corpus.

``build.py extract --data DIR`` cuts the documents (``source.jsonl``) and ``questions.jsonl`` out of the original data;
``build.py render`` turns ``source.jsonl`` into the files under ``documents``. Both give the same bytes every time.
"""

import argparse
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

from extract import extract
from renderers import render
from sample_document import load_documents, write_lines

HERE = Path(__file__).resolve().parent
DOCUMENTS = HERE / "documents"


def extract_command(data: Path) -> None:
    """Write ``source.jsonl`` and ``questions.jsonl`` beside this file."""
    missing = [name for name in ("medquad-mini", "xquad-en", "xquad-de", "xquad-es") if not (data / name).is_dir()]
    if missing:
        sys.exit(f"{data} has no {', '.join(missing)}. Pass the folder of the original data sets: see LICENCES.md.")
    documents, questions = extract(data, HERE / "selection.toml")
    write_lines(HERE / "source.jsonl", [asdict(document) for document in documents])
    write_lines(HERE / "questions.jsonl", questions)
    print(f"{len(documents)} documents, {len(questions)} questions")


def render_command(out: Path) -> None:
    """Write the corpus to ``out``: our own ``documents`` folder is replaced, any other must not exist yet."""
    documents = load_documents(HERE / "source.jsonl")
    if out == DOCUMENTS:
        shutil.rmtree(out, ignore_errors=True)
    elif out.exists():
        sys.exit(f"{out} exists already. Name a new folder, or delete it first.")
    for document in documents:
        path = out / document.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(render(document))
    print(f"{len(documents)} files in {out}")


def main() -> None:
    """Read the command line and run one of the two steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(dest="step", required=True)
    first = steps.add_parser("extract", help="original data -> source.jsonl, questions.jsonl")
    first.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of the original data sets")
    second = steps.add_parser("render", help="source.jsonl -> documents")
    second.add_argument("--out", type=Path, default=DOCUMENTS, metavar="DIR", help="default: %(default)s")
    arguments = parser.parse_args()
    if arguments.step == "extract":
        extract_command(arguments.data)
    else:
        render_command(arguments.out)


if __name__ == "__main__":
    main()
