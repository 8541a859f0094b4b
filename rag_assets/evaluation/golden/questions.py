"""Golden questions: reading them, naming their set, and finding the labels that no longer hold.

Labels name documents and quotes, never chunks, so they survive re-chunking. A label that no longer holds is reported,
not scored: a renamed document must not look like a search that got worse.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from rag_assets.errors import ConfigurationError
from rag_assets.fingerprint import fingerprint
from rag_assets.retrieval.filters import filters_of

_MAX_PROBLEMS = 20
"""Problems listed in one error message: enough to see the pattern, few enough to read."""
_MAX_VALUE_CHARACTERS = 80
_TAG = re.compile(r'</?[a-z][\w-]*(?:\s+[\w-]+="[^"]*")*\s*/?>')
_NOT_IN_WORDS = re.compile(r"[\W_]+")
_UNSPACED = re.compile(
    r"([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])"
)
"""Characters of Thai, Lao, Burmese, Khmer, Japanese and Chinese."""
_FORMAT = (
    'One JSON object per line: {"id", "question", "answer"?, '
    '"relevant": [{"document", "quote"?, "grade"?}], "filter"?, "kind"?}.'
)


@dataclass(frozen=True, slots=True)
class Label:
    """One thing a person judged relevant to a question."""

    document: str
    """The document's uri: its path relative to the source."""
    quote: str | None = None
    """Words of the document that hold the evidence."""
    grade: float = 1.0
    """Graded relevance, at least 0; 0 is "judged, and not relevant"."""


@dataclass(frozen=True, slots=True)
class Question:
    """One golden question."""

    id: str
    question: str
    answer: str | None = None
    """The gold answer."""
    relevant: tuple[Label, ...] = ()
    """Empty: the collection does not answer this question, and a good system says so."""
    filter: Mapping[str, Any] | None = None
    """Metadata filter to search with, as :func:`rag_assets.retrieval.filters.filters_of` reads it."""
    kind: str | None = None
    """A free name by which results are sliced."""

    @property
    def grades(self) -> dict[str, float]:
        """Relevance of each labelled document: its best grade."""
        grades: dict[str, float] = {}
        for label in self.relevant:
            grades[label.document] = max(label.grade, grades.get(label.document, 0.0))
        return grades


@dataclass(frozen=True, slots=True)
class InvalidLabel:
    """A label that can't be scored, and why."""

    question_id: str
    document: str
    quote: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class LabelReport:
    """Questions by what can be measured with them. Every question is in exactly one of the three groups."""

    measurable: tuple[Question, ...]
    """Only their valid labels are left."""
    unmeasured: tuple[Question, ...]
    """As written, but no valid label of a positive grade is left."""
    unanswerable: tuple[Question, ...]
    """Written with ``relevant: []``: they measure abstention, not retrieval."""
    invalid: tuple[InvalidLabel, ...]


def _clean(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    if "\0" in text:
        raise ValueError("must not contain the NUL character")
    return text


def _readable(stated: dict[str, Any]) -> dict[str, Any]:
    try:
        filters_of(stated)
    except ConfigurationError as error:
        raise ValueError(str(error)) from None
    return stated


_Text = Annotated[str, AfterValidator(_clean)]


class _LabelLine(BaseModel):
    # Numbers are accepted as ids and names: nobody means anything else by them.
    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)

    document: Annotated[_Text, Field(max_length=4096)]
    quote: Annotated[_Text, Field(max_length=100_000)] | None = None
    grade: float = Field(1.0, ge=0, allow_inf_nan=False)


class _QuestionLine(BaseModel):
    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)

    id: Annotated[_Text, Field(max_length=500)]
    question: Annotated[_Text, Field(max_length=10_000)]
    answer: Annotated[_Text, Field(max_length=100_000)] | None = None
    relevant: list[_LabelLine]
    filter: Annotated[dict[str, Any], AfterValidator(_readable)] | None = None
    kind: Annotated[_Text, Field(max_length=100)] | None = None
    draft: bool = False

    def value(self) -> Question:
        labels = tuple(Label(label.document, label.quote, label.grade) for label in self.relevant)
        return Question(self.id, self.question, self.answer, labels, self.filter, self.kind)


def load_questions(path: Path, *, drafts: bool = False) -> tuple[Question, ...]:
    """Read a question file (JSON Lines, UTF-8 with or without a byte order mark; blank lines are skipped).

    Args:
        path: the file.
        drafts: read a file of drafts; elsewhere a line that is marked as a draft is a problem.

    Raises:
        ConfigurationError: the file can't be read, is empty, repeats an id, or has lines that break the format; every
            problem (up to 20) with its line number, field, value and what is allowed.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"The question file {path} can't be read: {error.strerror}. Name another with --questions FILE."
        ) from None
    questions: list[Question] = []
    problems: list[str] = []
    first_line: dict[str, int] = {}
    for number, line in lines_of(data):
        try:
            read = _QuestionLine.model_validate_json(line)
        except ValidationError as error:
            problems += _explain(error, number)
            continue
        question = read.value()
        if read.draft and not drafts:
            problems.append(
                f"line {number}: id = {question.id!r}: is a draft; accept it with `rag-assets questions accept`"
            )
        if question.id in first_line:
            problems.append(f"line {number}: id = {question.id!r}: already used in line {first_line[question.id]}")
        first_line.setdefault(question.id, number)
        questions.append(question)
    if problems:
        raise ConfigurationError(_complaint(path, problems))
    if not questions:
        raise ConfigurationError(f"The question file {path} holds no question. {_FORMAT}")
    return tuple(questions)


def lines_of(data: bytes) -> list[tuple[int, bytes]]:
    """The lines of a question file that are not blank, with their numbers."""
    # Only "\n" ends a line: U+2028 and its like are legal inside a JSON string.
    lines = enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1)
    return [(number, line) for number, line in lines if line.strip()]


def _explain(error: ValidationError, number: int) -> list[str]:
    problems = []
    for problem in error.errors():
        field = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "json_invalid":
            problems.append(f"line {number}: not valid JSON: {problem['ctx']['error']}")
        elif problem["type"] == "missing":
            problems.append(f"line {number}: {field}: is required but missing")
        else:
            value = repr(problem["input"])
            if len(value) > _MAX_VALUE_CHARACTERS:
                value = f"{value[:_MAX_VALUE_CHARACTERS]}…"
            name = f"{field} = {value}" if field else value
            problems.append(f"line {number}: {name}: {problem['msg'].removeprefix('Value error, ')}")
    return problems


def _complaint(path: Path, problems: Sequence[str]) -> str:
    lines = [f"The question file {path} has {len(problems)} problem(s):"]
    lines += [f"  {problem}" for problem in problems[:_MAX_PROBLEMS]]
    if len(problems) > _MAX_PROBLEMS:
        lines.append(f"  … and {len(problems) - _MAX_PROBLEMS} more")
    lines.append(_FORMAT)
    return "\n".join(lines)


def question_set_hash(questions: Sequence[Question]) -> str:
    """Identity of a question set: 32 hex digits over everything in it; the order of the questions does not matter."""
    rows = []
    for question in sorted(questions, key=lambda question: question.id):
        labels = [[label.document, label.quote, label.grade] for label in question.relevant]
        rows.append([question.id, question.question, question.answer, labels, question.filter, question.kind])
    return fingerprint(rows)


def normalise_quote(text: str) -> str:
    """The form in which quotes are compared: its words alone, in NFKC (ligatures of PDFs), casefolded, a blank around each.

    People copy quotes from the file, and a parser drops what is markup there: emphasis, escapes, tags. Words are compared
    whole, so that ``308`` is not found in ``1308``; in scripts written without spaces every character is a word. Text
    without any letter or digit keeps its signs.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = " ".join(_UNSPACED.sub(r" \1 ", _NOT_IN_WORDS.sub(" ", _TAG.sub("", folded))).split())
    kept = words or " ".join(folded.split())
    return f" {kept} " if kept else ""


def is_unspaced(character: str) -> bool:
    """Whether a character is of a script that is written without spaces, so that it is a word of its own."""
    return bool(_UNSPACED.fullmatch(character))


def quote_in(quote: str, text: str) -> bool:
    """Whether the words of ``quote`` occur in ``text``, whatever stands between them. Never for empty quotes."""
    words = normalise_quote(quote)
    return bool(words) and words in normalise_quote(text)


def resolve_labels(questions: Sequence[Question], texts: Mapping[str, str]) -> LabelReport:
    """Sort labels into those that still hold and those that don't.

    Args:
        questions: as loaded.
        texts: the text of every document of the collection, by uri.
    """
    measurable: list[Question] = []
    unmeasured: list[Question] = []
    unanswerable: list[Question] = []
    invalid: list[InvalidLabel] = []
    normalised: dict[str, str] = {}
    for question in questions:
        if not question.relevant:
            unanswerable.append(question)
            continue
        valid: list[Label] = []
        for label in question.relevant:
            reason = _invalid_reason(label, texts, normalised)
            if reason is None:
                valid.append(label)
            else:
                invalid.append(InvalidLabel(question.id, label.document, label.quote, reason))
        if any(label.grade > 0 for label in valid):
            measurable.append(replace(question, relevant=tuple(valid)))
        else:
            unmeasured.append(question)
    return LabelReport(tuple(measurable), tuple(unmeasured), tuple(unanswerable), tuple(invalid))


def _invalid_reason(label: Label, texts: Mapping[str, str], normalised: dict[str, str]) -> str | None:
    """Why a label does not hold, or None. ``normalised`` remembers texts: one long document may carry many quotes."""
    text = texts.get(label.document)
    if text is None:
        return "the document is not in the collection"
    if label.quote is None:
        return None
    if label.document not in normalised:
        normalised[label.document] = normalise_quote(text)
    if normalise_quote(label.quote) in normalised[label.document]:
        return None
    return "the quote does not occur in the document"
