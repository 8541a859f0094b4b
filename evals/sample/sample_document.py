"""A document of the sample corpus before it is rendered, and how its text falls into sentences and paragraphs."""

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

_NO_SENTENCE_END = re.compile(
    r"(?:\b[A-Z]|\bSt|\bDr|\bMr|\bvs?|\bNo|\bc|\bd|\bal|\bInc|\be\.g|\bi\.e|\bz\. ?B|\bca|\bbzw)\.$"
)
_SENTENCE_GAP = re.compile(r"(?<=[.!?])([\"”\u2019)]*)\s+(?=[\"“„(¿¡]*[^\W_a-z])")


@dataclass(frozen=True, slots=True)
class SampleDocument:
    """One file of the corpus."""

    id: str
    title: str
    sections: tuple[tuple[str, str], ...]
    """Heading (may be empty) and text of each section; the text has no line breaks."""
    language: str
    """ISO 639-1."""
    origin: str
    """``medquad`` or ``xquad``: see LICENCES.md."""
    format: str
    """File extension without the dot."""
    path: str
    """Relative to the documents folder, POSIX separators, NFC."""

    @property
    def text(self) -> str:
        """Title, headings and section texts, a line break between them."""
        return "\n".join([self.title, *(part for section in self.sections for part in section)])

    @property
    def number(self) -> int:
        """A number fixed by the title, for choices that vary between documents but never between runs."""
        return int.from_bytes(hashlib.sha256(self.title.encode()).digest()[:4], "big")

    @property
    def date(self) -> datetime:
        """An invented date of last review, from 2024 to 2026."""
        return datetime(2024, 1, 8, 9, 30, tzinfo=UTC) + timedelta(days=self.number % 900, minutes=self.number % 400)

    @property
    def team(self) -> str:
        """The invented team that owns the document: named after its top two folders."""
        return "-".join(self.path.split("/")[:-1][:2])


def split_sentences(text: str) -> list[str]:
    """The sentences of ``text`` in order; joined by a space they are ``text`` again.

    In doubt (initials, ``St.``, ``et al.``) two sentences stay one.
    """
    sentences: list[str] = []
    start = 0
    for gap in _SENTENCE_GAP.finditer(text):
        if gap.group(1) or not _NO_SENTENCE_END.search(text, start, gap.start()):
            sentences.append(text[start : gap.end(1)])
            start = gap.end()
    return [*sentences, text[start:]]


def split_paragraphs(text: str, limit: int) -> list[str]:
    """Runs of whole sentences of at most ``limit`` characters; a longer sentence is a paragraph of its own."""
    paragraphs: list[str] = []
    for sentence in split_sentences(text):
        if paragraphs and len(paragraphs[-1]) + 1 + len(sentence) <= limit:
            paragraphs[-1] += " " + sentence
        else:
            paragraphs.append(sentence)
    return paragraphs


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON Lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write objects as JSON Lines, keys in the order given."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8", newline="\n")


def load_documents(path: Path) -> list[SampleDocument]:
    """The documents of ``source.jsonl``."""
    return [
        SampleDocument(**{**row, "sections": tuple((heading, text) for heading, text in row["sections"])})
        for row in read_lines(path)
    ]
