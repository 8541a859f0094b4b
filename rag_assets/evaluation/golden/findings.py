"""What a check of a question set says: figures, and findings that name their cure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

SHOWN = 20
"""Lines of a finding, and documents never asked about, that are shown to people; the JSON has all."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of thing that is wrong, with every instance of it."""

    severity: Literal["error", "warning"]
    """``error``: measurements with this set mislead. ``warning``: they say less than they could."""
    kind: str
    """A name for scripts, such as ``near-duplicate``."""
    text: str
    cure: str
    instances: tuple[str, ...] = ()
    """One line each, naming question or document."""


@dataclass(frozen=True, slots=True)
class Section:
    """One aspect of a set."""

    name: str
    figures: Mapping[str, Any]
    """For scripts: plain JSON."""
    lines: tuple[str, ...]
    """The same for people."""
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckReport:
    """Everything a check found."""

    collection: str
    generation: str
    file: Path
    questions: int
    sections: tuple[Section, ...] = field(default=())

    @property
    def findings(self) -> list[Finding]:
        """Those of all sections."""
        return [finding for section in self.sections for finding in section.findings]

    @property
    def sound(self) -> bool:
        """Whether there is no error; warnings are allowed."""
        return not any(finding.severity == "error" for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """The shape scripts rely on."""
        by_severity: dict[str, list[dict[str, Any]]] = {"error": [], "warning": []}
        for finding in self.findings:
            by_severity[finding.severity].append({**asdict(finding), "instances": list(finding.instances)})
        return {
            "collection": self.collection,
            "generation": self.generation,
            "file": str(self.file),
            "questions": self.questions,
            "sound": self.sound,
            **{section.name: dict(section.figures) for section in self.sections},
            "errors": by_severity["error"],
            "warnings": by_severity["warning"],
        }


def named(names: Sequence[str]) -> str:
    """Names in a sentence, at most five of them."""
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def share(part: int, whole: int) -> float:
    """``part / whole``, 0 … 1; 0 of nothing is 0."""
    return round(part / whole, 4) if whole else 0.0
