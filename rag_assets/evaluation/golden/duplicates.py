"""Questions that are asked twice: they count double, and where they contradict each other no system can be right."""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

from rag_assets.evaluation.golden.findings import Finding, Section
from rag_assets.evaluation.golden.questions import Question, normalise_quote
from rag_assets.fingerprint import fingerprint
from rag_assets.models import Vectors

NEAR = 0.95
"""Cosine similarity of two questions from which on they ask the same, to the model that searches."""
_BLOCK = 1024
"""Rows compared at a time: bounds memory for any number of questions."""


def same_question(one: Question, other: Question) -> bool:
    """Whether two ask the same of the same part of the collection: in the same words, behind the same filter."""
    return asked_as(one) == asked_as(other)


def asked_as(question: Question) -> tuple[str, str]:
    """What two questions have in common that are the same one."""
    return normalise_quote(question.question), fingerprint(dict(question.filter or {}))


def check_duplicates(questions: Sequence[Question], embed: Callable[[Sequence[str]], Vectors]) -> Section:
    """The same question in the same words, in other words, and with other labels or another answer.

    Args:
        questions: as loaded.
        embed: unit vectors of questions.
    """
    same, contradicting = _same(questions)
    near = _near(questions, embed)
    figures = {"same": same, "contradicting": contradicting, "near": near}
    lines = (f"{len(same)} repeated, {len(contradicting)} contradicting, {len(near)} nearly the same",)
    findings = []
    if same:
        text = f"{len(same)} pairs are the same question: it counts twice."
        instances = tuple(f"{pair[0]}, {pair[1]}" for pair in same)
        findings.append(Finding("error", "duplicate", text, "Delete one of each.", instances))
    if contradicting:
        text = f"{len(contradicting)} pairs are the same question with different labels or answers."
        instances = tuple(f"{item['ids'][0]}, {item['ids'][1]}: different {item['differs']}" for item in contradicting)
        cure = "Decide which is right, or make one question of both with all labels."
        findings.append(Finding("error", "contradiction", text, cure, instances))
    if near:
        text = f"{len(near)} pairs ask nearly the same (cosine ≥ {NEAR}): they count almost twice."
        instances = tuple(f"{item['ids'][0]}, {item['ids'][1]}: {item['similarity']:.3f}" for item in near)
        findings.append(
            Finding("warning", "near-duplicate", text, "Keep one, unless the difference matters.", instances)
        )
    return Section("duplicates", figures, lines, tuple(findings))


def _same(questions: Sequence[Question]) -> tuple[list[list[str]], list[dict[str, Any]]]:
    """(pairs that say the same, pairs that contradict each other)."""
    groups: dict[tuple[str, str], list[Question]] = {}
    for question in questions:
        groups.setdefault(asked_as(question), []).append(question)
    same, contradicting = [], []
    for group in groups.values():
        for one, other in combinations(group, 2):
            differs = _difference(one, other)
            if differs is None:
                same.append([one.id, other.id])
            else:
                contradicting.append({"ids": [one.id, other.id], "differs": differs})
    return same, contradicting


def _difference(one: Question, other: Question) -> str | None:
    if {document: grade for document, grade in one.grades.items() if grade > 0} != {
        document: grade for document, grade in other.grades.items() if grade > 0
    }:
        return "labels"
    # A question without an answer contradicts none.
    answers = {normalise_quote(question.answer) for question in (one, other) if question.answer is not None}
    return "answers" if len(answers) > 1 else None


def _near(questions: Sequence[Question], embed: Callable[[Sequence[str]], Vectors]) -> list[dict[str, Any]]:
    vectors = embed([question.question for question in questions])
    found = []
    for start in range(0, len(questions), _BLOCK):
        similar = vectors[start : start + _BLOCK] @ vectors[start:].T
        for row, column in zip(*(similar >= NEAR).nonzero(), strict=True):
            one, other = questions[start + int(row)], questions[start + int(column)]
            # Behind different filters the same words ask for different things.
            if column > row and asked_as(one)[0] != asked_as(other)[0] and one.filter == other.filter:
                found.append({"ids": [one.id, other.id], "similarity": round(float(similar[row, column]), 4)})
    return sorted(found, key=lambda item: (-item["similarity"], item["ids"]))
