"""Drafts on disk, and their way into the question file: both files change by one rename each, or not at all."""

import json
import os
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rag_assets.errors import ConfigurationError
from rag_assets.evaluation.golden.passages import Passage
from rag_assets.evaluation.golden.questions import Question, lines_of, load_questions
from rag_assets.evaluation.golden.validation import refusal
from rag_assets.evaluation.provenance import corpus_texts
from rag_assets.runtime import Runtime

_ONLY_OF_DRAFTS = ("draft", "context")


@dataclass(frozen=True, slots=True)
class Draft:
    """A proposed question and the passage it was drafted from."""

    question: Question
    passage: Passage

    @property
    def line(self) -> bytes:
        """The draft as a line of a drafts file."""
        question = self.question
        value: dict[str, Any] = {
            "id": question.id,
            "question": question.question,
            "answer": question.answer,
            "relevant": [{"document": label.document, "quote": label.quote} for label in question.relevant],
            "kind": question.kind,
            "draft": True,
            "context": {"headings": list(self.passage.headings), "text": self.passage.text},
        }
        return json.dumps(value, ensure_ascii=False).encode()


@dataclass(frozen=True, slots=True)
class Waiting:
    """A line of a drafts file."""

    line: bytes
    question: Question
    context: str
    """The passage for the person who reads; empty where the line has none."""

    @property
    def accepted(self) -> bytes:
        """The line as it goes into the question file: what marks a draft is left out."""
        value = {key: item for key, item in json.loads(self.line).items() if key not in _ONLY_OF_DRAFTS}
        return json.dumps(value, ensure_ascii=False).encode()


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of the drafts that were looked at."""

    accepted: tuple[str, ...]
    """Ids of those that are golden questions now."""
    refused: dict[str, str]
    """Reason by id; they stay drafts."""
    discarded: tuple[str, ...]
    left: int
    """Drafts that still wait."""


def read_drafts(path: Path) -> list[Waiting]:
    """The drafts of a file.

    Raises:
        ConfigurationError: it can't be read, breaks the format, or holds none.
    """
    questions = load_questions(path, drafts=True)
    lines = [line for _, line in lines_of(path.read_bytes())]
    waiting = []
    for line, question in zip(lines, questions, strict=True):
        context = json.loads(line).get("context")
        text = context.get("text") if isinstance(context, dict) else None
        waiting.append(Waiting(line, question, text if isinstance(text, str) else ""))
    return waiting


def known_questions(path: Path | None, *, drafts: bool = False) -> tuple[Question, ...]:
    """The questions of a file; none where there is no such file yet, or nothing in it."""
    if path is None or not path.exists() or not path.read_bytes().strip():
        return ()
    return load_questions(path, drafts=drafts)


def add_drafts(path: Path, drafts: Sequence[Draft]) -> None:
    """Append drafts to a file, which is made if need be; what stands in it stays as it is."""
    _append(path, [draft.line for draft in drafts])


def accept(
    runtime: Runtime,
    collection: str,
    questions_file: Path,
    drafts_file: Path,
    chosen: Collection[str],
    discarded: Collection[str] = (),
) -> Accepted:
    """Move drafts into the question file, those that hold; the others stay drafts.

    A draft that is a golden question already, word for word, was moved by a command that was interrupted; it is
    taken out of the drafts.

    Args:
        runtime: the parts.
        collection: whose documents the labels name.
        questions_file: need not exist yet.
        drafts_file: what ``questions draft`` wrote, as a person may have changed it.
        chosen: ids to accept.
        discarded: ids to drop.

    Raises:
        ConfigurationError: a file can't be read or is wrong, or an id is not among the drafts.
    """
    waiting = read_drafts(drafts_file)
    ids = {item.question.id for item in waiting}
    if unknown := sorted({*chosen, *discarded} - ids):
        raise ConfigurationError(
            f"{drafts_file} has no draft {', '.join(map(repr, unknown))}. It has: {', '.join(sorted(ids))}."
        )
    texts = corpus_texts(runtime, collection, [item.question for item in waiting if item.question.id in chosen])
    known = list(known_questions(questions_file))
    taken: list[Waiting] = []
    new: list[bytes] = []
    refused: dict[str, str] = {}
    for item in waiting:
        if item.question.id not in chosen:
            continue
        reason = None if item.question in known else refusal(item.question, known, texts)
        if reason is not None:
            refused[item.question.id] = reason
            continue
        taken.append(item)
        if item.question not in known:
            new.append(item.accepted)
            known.append(item.question)
    gone = {item.question.id for item in taken} | set(discarded)
    # In this order: a draft that stands in both files is recognised by the next command, one in neither is lost.
    if new:
        _append(questions_file, new)
    if gone:
        kept = [item.line for item in waiting if item.question.id not in gone]
        _replace(drafts_file, b"".join(line + b"\n" for line in kept))
    return Accepted(
        tuple(item.question.id for item in taken), refused, tuple(sorted(discarded)), len(waiting) - len(gone)
    )


def ask_each(waiting: Sequence[Waiting], ask: Callable[[Waiting], str]) -> tuple[list[str], list[str]]:
    """(ids accepted, ids discarded) by a person's answers: ``y``, ``n``, ``skip``, or ``quit`` for all that follow."""
    chosen, discarded = [], []
    for item in waiting:
        answer = ask(item)
        if answer == "quit":
            break
        if answer == "y":
            chosen.append(item.question.id)
        elif answer == "n":
            discarded.append(item.question.id)
    return chosen, discarded


def _append(path: Path, lines: Sequence[bytes]) -> None:
    data = path.read_bytes() if path.exists() else b""
    if data and not data.endswith(b"\n"):
        data += b"\n"
    _replace(path, data + b"".join(line + b"\n" for line in lines))


def _replace(path: Path, data: bytes) -> None:
    """Write a file by a rename: a reader, or a crash, finds the old bytes or the new ones."""
    # A link stays a link: what it points to is replaced.
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
