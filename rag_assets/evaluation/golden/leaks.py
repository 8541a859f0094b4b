"""Questions that give their answer away, so that any search looks good."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rag_assets.evaluation.golden.coverage import type_of
from rag_assets.evaluation.golden.findings import Finding, Section, named, share
from rag_assets.evaluation.golden.questions import Question, normalise_quote
from rag_assets.evaluation.golden.wording import COPIED_WORDS, LEAST_WORDS, copied_run, length, stands_in, words_of
from rag_assets.stores.analysis import LATIN_LANGUAGES, UNKNOWN, detect, split_words

_LISTS = frozenset({"csv", "json", "jsonl", "tsv", "txt", "xlsx", "xml"})
"""File types a set of questions is kept in."""
_LEAST_LISTED = 3
_LANGUAGE_CHARACTERS = 5000
"""How much of a document tells its language."""


@dataclass(slots=True)
class Survey:
    """What one pass over all documents of a collection shows."""

    languages: dict[str, str] = field(default_factory=dict)
    """Of every document, by uri."""
    verbatim: dict[str, list[str]] = field(default_factory=dict)
    """By question id: the documents in which its text stands word for word."""


def survey(documents: Iterable[tuple[str, str]], questions: Sequence[Question]) -> Survey:
    """Look at every document once.

    Args:
        documents: (uri, text) of each; they may be too many for memory.
        questions: whose text is looked for; one of fewer than four words is not.
    """
    found = Survey()
    needles = []
    for question in questions:
        words = words_of(question.question)
        if length(words) >= LEAST_WORDS:
            needles.append((question.id, frozenset(words), f" {' '.join(words)} "))
    for uri, text in documents:
        code = detect(split_words(text[:_LANGUAGE_CHARACTERS]))
        found.languages[uri] = "unknown" if code == UNKNOWN else LATIN_LANGUAGES[code - 1]
        normalised = normalise_quote(text)
        there = set(normalised.split())
        for key, words_, needle in needles:
            # Nearly every question has a word the document lacks: the text itself is looked through for few.
            if words_ <= there and needle in normalised:
                found.verbatim.setdefault(key, []).append(uri)
    return found


def check_leaks(questions: Sequence[Question], surveyed: Survey, indexed: str | None) -> Section:
    """Leaks of every kind.

    Args:
        questions: as loaded.
        surveyed: of the documents.
        indexed: the uri under which the question file itself is a document; None: it is not.
    """
    lists = _question_lists(questions, surveyed, indexed)
    in_documents = [
        {"question": question.id, "documents": where}
        for question in questions
        if (where := [uri for uri in surveyed.verbatim.get(question.id, ()) if uri not in lists])
    ]
    in_question = [q.id for q in questions if q.answer is not None and stands_in(q.answer, q.question)]
    copied = [
        {"question": question.id, "words": run} for question in questions if (run := _copied(question)) is not None
    ]
    total = len(questions)
    figures: dict[str, Any] = {
        "in_document": {"share": share(len(in_documents), total), "questions": in_documents},
        "answer_in_question": {"share": share(len(in_question), total), "questions": in_question},
        "copied_from_quote": {"share": share(len(copied), total), "questions": copied},
        "question_files": lists,
    }
    line = (
        f"question stands in a document {share(len(in_documents), total):.0%}, answer in its question "
        f"{share(len(in_question), total):.0%}, {COPIED_WORDS} words copied from the quote {share(len(copied), total):.0%}"
    )
    return Section("leaks", figures, (line,), tuple(_findings(in_documents, in_question, copied, lists, total)))


def _question_lists(questions: Sequence[Question], surveyed: Survey, indexed: str | None) -> list[str]:
    """Documents that are this set: the file itself, and lists that hold half of its questions or more."""
    counts: dict[str, int] = {}
    for documents in surveyed.verbatim.values():
        for uri in documents:
            counts[uri] = counts.get(uri, 0) + 1
    enough = max(_LEAST_LISTED, len(questions) / 2)
    found = {uri for uri, count in counts.items() if count >= enough and type_of(uri) in _LISTS}
    return sorted(found | ({indexed} if indexed else set()))


def _copied(question: Question) -> str | None:
    runs = [
        copied_run(question.question, label.quote) for label in question.relevant if label.quote and label.grade > 0
    ]
    return max((run for run in runs if run is not None), key=len, default=None)


def _findings(
    in_documents: Sequence[dict[str, Any]],
    in_question: Sequence[str],
    copied: Sequence[dict[str, Any]],
    lists: Sequence[str],
    total: int,
) -> list[Finding]:
    findings = []
    if lists:
        text = "The questions are indexed with the documents: every search finds them there first."
        cure = "Move the file out of the source, or add it to the collection's `exclude`, and run `rag-assets sync`."
        findings.append(Finding("error", "questions-indexed", text, cure, tuple(lists)))
    if in_documents:
        text = f"{len(in_documents)} of {total} questions stand word for word in a document: finding it is trivial."
        instances = tuple(f"{item['question']}: {named(item['documents'])}" for item in in_documents)
        cure = "Ask as people do who have not read the document."
        findings.append(Finding("warning", "question-in-document", text, cure, instances))
    if in_question:
        text = f"{len(in_question)} of {total} gold answers stand in their question: repeating it scores as answering."
        cure = "Ask without naming the answer, or give the full answer."
        findings.append(Finding("warning", "answer-in-question", text, cure, tuple(in_question)))
    if copied:
        text = (
            f"{len(copied)} of {total} questions share {COPIED_WORDS} words in a row, or more, with their own quote: "
            "search by words looks better than it is."
        )
        instances = tuple(f"{item['question']}: “{item['words']}”" for item in copied)
        findings.append(Finding("warning", "copied-wording", text, "Ask in other words than the evidence.", instances))
    return findings
