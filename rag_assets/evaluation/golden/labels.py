"""Labels and filters that do not hold: what they measure is not the search."""

from collections.abc import Mapping, Sequence

from psycopg import sql

from rag_assets.database.generations import Generation
from rag_assets.errors import ConfigurationError
from rag_assets.evaluation.golden.findings import Finding, Section, named
from rag_assets.evaluation.golden.questions import LabelReport, Question
from rag_assets.retrieval.filters import filters_of
from rag_assets.retrieval.search import check_fields
from rag_assets.runtime import Runtime
from rag_assets.stores import pgvector
from rag_assets.stores.conditions import clause

Shut = Mapping[str, Sequence[str] | str]
"""By question id: the labelled documents that its filter does not let pass, or why it can't be searched with."""


def shut_out(runtime: Runtime, generation: Generation, questions: Sequence[Question]) -> Shut:
    """What the questions' filters exclude of their own labelled documents, by the rows of a generation."""
    found: dict[str, Sequence[str] | str] = {}
    for question in questions:
        if not question.filter:
            continue
        conditions = filters_of(question.filter)
        wanted = sorted(document for document, grade in question.grades.items() if grade > 0)
        try:
            check_fields(
                runtime, generation.collection, conditions, runtime.settings.retrieval_of(generation.collection)
            )
        except ConfigurationError as error:
            found[question.id] = str(error)
            continue
        passing = clause(conditions)
        statement = sql.SQL(
            "SELECT DISTINCT payload ->> 'document' FROM {} WHERE payload ->> 'document' = ANY(%(documents)s) AND {}"
        ).format(pgvector.table(generation), passing.sql)
        with runtime.database.transaction() as connection:
            rows = connection.execute(statement, {"documents": wanted, **passing.parameters}).fetchall()
        if missing := sorted(set(wanted) - {row[0] for row in rows}):
            found[question.id] = missing
    return found


def check_labels(questions: Sequence[Question], report: LabelReport, shut: Shut) -> Section:
    """Labels that hold and those that don't, and what the filters do to them."""
    total = sum(len(question.relevant) for question in questions)
    valid = total - len(report.invalid)
    groups = {
        "measurable": len(report.measurable),
        "unmeasured": len(report.unmeasured),
        "unanswerable": len(report.unanswerable),
    }
    invalid = [
        {"question": item.question_id, "document": item.document, "quote": item.quote, "reason": item.reason}
        for item in report.invalid
    ]
    lines = (
        f"{total} labels: {valid} valid, {len(report.invalid)} invalid",
        f"{len(questions)} questions: " + ", ".join(f"{count} {name}" for name, count in groups.items()),
    )
    figures = {
        "total": total,
        "valid": valid,
        "invalid": invalid,
        "questions": groups,
        "excluded_by_filter": dict(shut),
    }
    return Section("labels", figures, lines, (*_invalid(report), *_filters(report, shut)))


def _invalid(report: LabelReport) -> list[Finding]:
    instances = tuple(
        f"{item.question_id}: {item.document}: {item.reason}" + (f": “{_short(item.quote)}”" if item.quote else "")
        for item in report.invalid
    )
    if not instances:
        return []
    return [
        Finding(
            "error",
            "invalid-label",
            f"{len(instances)} labels do not hold in the indexed documents.",
            "Correct the document's path or copy the quote anew from it; `rag-assets status` lists what is not indexed.",
            instances,
        )
    ]


def _filters(report: LabelReport, shut: Shut) -> list[Finding]:
    whole: list[str] = []
    part: list[str] = []
    refused: list[str] = []
    for question in report.measurable:
        lost = shut.get(question.id)
        if isinstance(lost, str):
            refused.append(f"{question.id}: {lost}")
        elif lost:
            all_lost = len(lost) == sum(grade > 0 for grade in question.grades.values())
            (whole if all_lost else part).append(f"{question.id}: {named(lost)}")
    findings = []
    if refused:
        text = f"{len(refused)} filters can't be searched with."
        findings.append(
            Finding("error", "unusable-filter", text, "Correct the name of the field in `filter`.", tuple(refused))
        )
    if whole:
        text = f"{len(whole)} filters pass none of their question's labelled documents: no search can find them."
        cure = "Correct `filter` by the documents' metadata (`rag-assets search --json` shows it), or the labels."
        findings.append(Finding("error", "filter-excludes-labels", text, cure, tuple(whole)))
    if part:
        text = f"{len(part)} filters exclude some of their question's labelled documents: recall of 1 is out of reach."
        cure = "Take the excluded documents out of `relevant`, or widen `filter`."
        findings.append(Finding("warning", "filter-excludes-some", text, cure, tuple(part)))
    return findings


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:79] + "…"
