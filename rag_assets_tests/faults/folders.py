"""What people do to a folder of documents, drawn from a seed."""

import os
import random
from pathlib import Path

from rag_assets_tests.driving import write

NAMES = (*(f"n{number}.md" for number in range(8)), *(f"sub/s{number}.md" for number in range(5)), "deep/er/x.md")
ANCHORS = ("anchor0.md", "anchor1.md")
"""Never deleted: an index without any document is another story."""


def body(number: int, paragraphs: int = 2) -> str:
    """A document's text; equal numbers give equal texts."""
    lines = [
        f"Paragraph {n} of text {number} speaks of subject {number * 13 + n} and nothing else."
        for n in range(paragraphs)
    ]
    return f"# Text {number}\n\n" + "\n\n".join(lines) + "\n"


def begin(source: Path) -> None:
    """The folder before anything happens to it."""
    for number, name in enumerate(ANCHORS):
        write(source, name, body(1000 + number, 3))
    for number, name in enumerate(NAMES[:5]):
        write(source, name, body(number))


def documents(source: Path) -> list[str]:
    """Names of the files there are, anchors apart."""
    found = {
        Path(parent, name).relative_to(source).as_posix() for parent, _, names in os.walk(source) for name in names
    }
    return sorted(found - set(ANCHORS))


def move(source: Path, old: str, new: str) -> None:
    """Rename a file; one of the new name is replaced."""
    (source / new).parent.mkdir(parents=True, exist_ok=True)
    os.replace(source / old, source / new)


def set_front_matter(source: Path, name: str, value: int) -> None:
    """An edit of a document's metadata alone."""
    text = (source / name).read_text(encoding="utf-8", errors="replace")
    if text.startswith("---\n"):
        text = text.partition("\n---\n")[2]
    write(source, name, f"---\nteam: team{value}\n---\n{text}")


def change(source: Path, rng: random.Random) -> None:
    """One random operation."""
    there = documents(source)
    kinds = [
        "write",
        "write",
        "edit",
        "edit",
        "anchor",
        "front",
        "delete",
        "rename",
        "copy",
        "touch",
        "garbage",
        "folder",
    ]
    kind = rng.choice(kinds) if len(there) > 2 else "write"
    name, number = rng.choice(NAMES), rng.randrange(40)
    markdown = [item for item in there if item.endswith(".md")]
    if kind == "anchor":
        write(source, rng.choice(ANCHORS), body(1000 + number, 3))
    elif kind == "front" and markdown:
        set_front_matter(source, rng.choice(markdown), number)
    elif kind == "delete":
        (source / rng.choice(there)).unlink()
    elif kind == "rename" and markdown:
        move(source, rng.choice(markdown), name)
    elif kind == "copy" and markdown:
        write(source, name, (source / rng.choice(markdown)).read_text(encoding="utf-8"))
    elif kind == "touch":
        os.utime(source / rng.choice(there))
    elif kind == "garbage":
        (source / f"garbage{number % 3}.docx").write_bytes(b"PK\x03\x04" + bytes([number]))
    elif kind == "folder" and (source / "sub").is_dir() and not (source / f"sub{number % 3}").exists():
        (source / "sub").rename(source / f"sub{number % 3}")
    else:
        write(source, name, body(number, 1 + number % 3))
