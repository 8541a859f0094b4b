"""What the questions ask about, and what nobody asks about."""

from collections.abc import Callable, Mapping, Sequence
from posixpath import splitext

from rag_assets.evaluation.golden.findings import SHOWN, Finding, Section, share
from rag_assets.evaluation.golden.questions import LabelReport, Question

LITTLE_COVERED = 0.5
"""Below this share of its documents named by a label, a set says little of most of the collection."""


def type_of(uri: str) -> str:
    """The file type of a document, as its extension says it."""
    return splitext(uri)[1].removeprefix(".").lower() or "none"


def folder_of(uri: str) -> str:
    """The top folder of a document; ``.`` for those that lie in none."""
    head, slash, _ = uri.partition("/")
    return head if slash else "."


def asked_about(report: LabelReport) -> set[str]:
    """Documents that a valid label of a positive grade names."""
    return {document for question in report.measurable for document, grade in question.grades.items() if grade > 0}


def check_coverage(questions: Sequence[Question], report: LabelReport, languages: Mapping[str, str]) -> Section:
    """Coverage of documents and of what questions can carry.

    Args:
        questions: as loaded.
        report: which of their labels hold.
        languages: the language of every document of the collection, by uri; ``unknown`` where it is.
    """
    asked = asked_about(report) & languages.keys()
    never = sorted(languages.keys() - asked)
    groups = {
        "by_type": _by(languages, asked, type_of),
        "by_folder": _by(languages, asked, folder_of),
        "by_language": _by(languages, asked, lambda uri: languages[uri]),
    }
    carrying = _carrying(questions)
    figures = {
        "documents": {"total": len(languages), "asked": len(asked), "share": share(len(asked), len(languages))},
        **groups,
        "never_asked": {"count": len(never), "documents": never},
        "questions": carrying,
    }
    lines = [f"{len(asked)} of {len(languages)} documents are asked about ({share(len(asked), len(languages)):.0%})"]
    for name, counts in groups.items():
        if len(counts) > 1:
            parts = [f"{key} {row['asked']}/{row['documents']}" for key, row in counts.items()]
            more = f" … and {len(parts) - SHOWN} more" if len(parts) > SHOWN else ""
            lines.append(f"{name.replace('_', ' ')}: {', '.join(parts[:SHOWN])}{more}")
    lines.append("questions: " + ", ".join(f"{name.replace('_', ' ')} {value:.0%}" for name, value in carrying.items()))
    if never:
        more = f" … and {len(never) - SHOWN} more" if len(never) > SHOWN else ""
        lines.append(f"never asked about ({len(never)}): {', '.join(never[:SHOWN])}{more}")
    return Section("coverage", figures, tuple(lines), (*_uncovered(never, len(languages)), *_missing(carrying)))


def _by(documents: Mapping[str, str], asked: set[str], key: Callable[[str], str]) -> dict[str, dict[str, int | float]]:
    counts: dict[str, list[int]] = {}
    for uri in documents:
        row = counts.setdefault(key(uri), [0, 0])
        row[0] += 1
        row[1] += uri in asked
    ordered = sorted(counts.items(), key=lambda item: (-item[1][0], item[0]))
    return {name: {"documents": n, "asked": hit, "share": share(hit, n)} for name, (n, hit) in ordered}


def _carrying(questions: Sequence[Question]) -> dict[str, float]:
    """Shares: quotes and gold answers of the answerable questions, the others of all."""
    answerable = [question for question in questions if question.relevant]
    quoted = sum(any(label.quote for label in question.relevant) for question in answerable)
    return {
        "with_quotes": share(quoted, len(answerable)),
        "with_answers": share(sum(question.answer is not None for question in answerable), len(answerable)),
        "with_kinds": share(sum(question.kind is not None for question in questions), len(questions)),
        "with_filters": share(sum(bool(question.filter) for question in questions), len(questions)),
        "unanswerable": share(len(questions) - len(answerable), len(questions)),
    }


def _uncovered(never: Sequence[str], total: int) -> list[Finding]:
    if 1 - share(len(never), total) >= LITTLE_COVERED:
        return []
    text = f"{len(never)} of {total} documents are never asked about: they may be lost without any score falling."
    cure = "`rag-assets questions draft` proposes questions about them."
    return [Finding("warning", "little-covered", text, cure)]


def _missing(carrying: Mapping[str, float]) -> list[Finding]:
    findings = []
    if carrying["unanswerable"] == 0:
        text = "No question is unanswerable, so nobody measures whether the system says that it does not know."
        cure = 'Add some questions that no document answers, with `"relevant": []`.'
        findings.append(Finding("warning", "none-unanswerable", text, cure))
    if carrying["with_quotes"] == 0 and carrying["unanswerable"] < 1:
        text = "No label quotes its evidence, so a label holds even after the evidence has gone from its document."
        findings.append(Finding("warning", "no-quotes", text, 'Add `"quote"` with the exact words to the labels.'))
    if carrying["with_answers"] == 0 and carrying["unanswerable"] < 1:
        text = "No question has a gold answer, so answers are compared with nothing."
        findings.append(Finding("warning", "no-answers", text, 'Add `"answer"` to the questions.'))
    return findings
