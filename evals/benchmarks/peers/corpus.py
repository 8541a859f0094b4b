"""The documents every system gets, and what happens to them: 1 % edited, 10 % deleted."""

import json
import random
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

SETS = ("medquad-mini", "hotpot", "cranfield")
SUFFIXES = (".txt", ".md")
"""What every system reads as it is: parsing other formats is no part of this comparison."""

PLAIN_WORDS = re.compile(r"[a-z]+(?: [a-z]+){5}")


@dataclass(frozen=True, slots=True)
class Edit:
    """Six words of a document that were replaced."""

    document: str
    before: str
    """The six words; no other place of the document has them."""
    after: str
    """A word of what stands there instead; no document had it."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """A folder of documents, and questions about them."""

    folder: Path
    questions: tuple[str, ...]

    def names(self) -> list[str]:
        """Paths relative to the folder, sorted."""
        return sorted(path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file())

    def text(self, name: str) -> str:
        """The text of a document."""
        return (self.folder / name).read_text(encoding="utf-8")

    def edit(self, share: float, seed: int) -> list["Edit"]:
        """Replace a few words in the middle of a share of the documents."""
        chosen = random.Random(seed).sample(self.names(), max(1, round(share * len(self.names()))))
        edits = []
        for number, name in enumerate(sorted(chosen)):
            text = self.text(name)
            runs = [run for run in PLAIN_WORDS.finditer(text) if text.count(run.group()) == 1]
            if not runs:
                continue
            run = min(runs, key=lambda found: abs(found.start() - len(text) // 2))
            edit = Edit(name, run.group(), code(seed * 1000 + number))
            words = f"the {edit.after} procedure was amended then"
            (self.folder / name).write_text(text[: run.start()] + words + text[run.end() :], encoding="utf-8")
            edits.append(edit)
        return edits

    def delete(self, share: float, seed: int) -> dict[str, str]:
        """Delete a share of the documents; returns document -> its text."""
        chosen = random.Random(seed).sample(self.names(), max(1, round(share * len(self.names()))))
        gone = {name: self.text(name) for name in sorted(chosen)}
        for name in gone:
            (self.folder / name).unlink()
        return gone


def code(number: int) -> str:
    """A word that no document has."""
    syllables = ["zor", "bix", "quam", "velt", "jund", "krep", "wob", "yst", "fli", "dru"]
    return "".join(syllables[int(digit)] for digit in f"{number:05d}")


def prepare(data: Path | None, sample: Path, target: Path, documents: int, questions: int) -> Corpus:
    """Copy so many documents, an equal number of each set as far as they reach, and questions about them.

    Args:
        data: a folder of sets (``NAME/documents``, ``NAME/questions.jsonl``), or one such set; None: the bundled sample.
        sample: where the bundled sample lies.
        target: an empty folder; the documents go below ``documents``.
        documents: at most so many.
        questions: at most so many.

    Raises:
        SystemExit: there is no document.
    """
    sets = [data / name for name in SETS if (data / name / "documents").is_dir()] if data else []
    if not sets:
        sets = [data if data and (data / "documents").is_dir() else sample]
    pools = [
        sorted(path for path in (folder / "documents").rglob("*") if path.is_file() and path.suffix in SUFFIXES)
        for folder in sets
    ]
    chosen: set[tuple[int, Path]] = set()
    for rank in range(max(map(len, pools), default=0)):
        chosen |= {
            (index, pool[rank]) for index, pool in enumerate(pools) if rank < len(pool) and len(chosen) < documents
        }
    if not chosen:
        raise SystemExit(f"There is no .txt or .md document in {', '.join(map(str, sets))}. Pass another --data.")
    for index, path in chosen:
        copy = target / "documents" / sets[index].name / path.relative_to(sets[index] / "documents")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    asked = []
    for folder in sets:
        lines = (folder / "questions.jsonl").read_text(encoding="utf-8").splitlines()
        asked += [json.loads(line)["question"] for line in lines]
    random.Random(0).shuffle(asked)
    return Corpus(target / "documents", tuple(asked[:questions]))
