"""Canaries: fixed texts whose vectors show whether a server still runs the model that an index was made with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rag_assets.models import TokenCounter, Vectors

LEAST_COSINE = 0.999
"""Half precision stays above 0.9999; another model, revision, pooling or prompt falls far below."""
CLEAR_MARGIN = 0.02
"""Of two texts, one counts as the nearer neighbour where its cosine is greater by this much: rounding can swap the others."""
LONG_TOKENS = 512
"""The longest canary has so many tokens, or what the model reads: a server that truncates earlier is seen."""

SHORT = (
    "The seal of the pump is worn and must be replaced before the next inspection.",
    "How many days of parental leave are there?",
    "Der Vertrag endet mit Ablauf des Monats, in dem die Kündigung zugeht.",
    "Los empleados tienen derecho a veintitrés días de vacaciones al año.",
    "La réunion du comité est reportée au jeudi 14 mars à 9 h 30.",
    "機械学習モデルの埋め込みベクトルを比較する。",
    "Температура плавления меди составляет 1085 °C.",
    "معدل الفائدة الأساسي هو أربعة في المئة.",
    "def mean(xs): return sum(xs) / len(xs)",
    "| item | quantity |\n|---|---|\n| bolt M8 | 40 |",
    "naïve café – 3 × 7 = 21 ✓",
)
_LONG = (
    "The museum keeps letters, maps and photographs of the harbour from three centuries. Visitors may read them on weekdays, "
    "with clean hands and without a pen. Storm damage of 1953 is documented street by street. "
)
_OTHER = "copper wire carries electric current through cold deep water "


class Cutter(TokenCounter, Protocol):
    """Counts tokens, and cuts a text to a number of them."""

    def cut(self, text: str, limit: int) -> str:
        """The longest beginning of a text that is no more than ``limit`` tokens."""
        ...


@dataclass(frozen=True, slots=True)
class Reference:
    """Canaries and the vectors that the model makes of them."""

    texts: tuple[str, ...]
    vectors: Vectors


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far the vectors of canaries agree with the reference."""

    texts: tuple[str, ...]
    cosines: tuple[float, ...]
    swapped: int
    """(text, neighbour, neighbour) whose clear order is another one."""
    compared: int
    """How many such orders were clear."""

    @property
    def holds(self) -> bool:
        """Every cosine is near 1, and every clear order of neighbours is the same."""
        return min(self.cosines) >= LEAST_COSINE and not self.swapped

    def __str__(self) -> str:
        worst = int(np.argmin(self.cosines))
        far = sum(cosine < LEAST_COSINE for cosine in self.cosines)
        return (
            f"{far} of {len(self.cosines)} reference texts have a cosine below {LEAST_COSINE}, the lowest {self.cosines[worst]:.4f} "
            f"({self.texts[worst][:40]!r}); {self.swapped} of {self.compared} orders of neighbours differ"
        )


def canaries(cutter: Cutter, max_tokens: int) -> tuple[str, ...]:
    """A dozen texts in several scripts and notations, the last of them long."""
    return (*SHORT, filled(cutter, _LONG, min(max_tokens, LONG_TOKENS)))


def endings(cutter: Cutter, max_tokens: int) -> tuple[str, str]:
    """Two texts of ``max_tokens`` that differ in the last of them only: who truncates gives them one vector."""
    tail = max(8, max_tokens // 32)
    whole = filled(cutter, _LONG, max_tokens)
    head = filled(cutter, _LONG, max_tokens - tail)
    return whole, cutter.cut(f"{head} {_OTHER * tail}", max_tokens)


def filled(cutter: Cutter, text: str, tokens: int) -> str:
    """A text repeated until it has so many tokens."""
    each = max(1, cutter.count_tokens([text])[0] - cutter.count_tokens([""])[0])
    return cutter.cut(text * (tokens // each + 2), tokens).rstrip()


def compare(reference: Reference, vectors: Vectors) -> Agreement:
    """Compare unit vectors, (len(reference.texts), dimension), with the reference's."""
    cosines = np.sum(reference.vectors * vectors, axis=1)
    before, after = reference.vectors @ reference.vectors.T, vectors @ vectors.T
    clear = before[:, :, None] - before[:, None, :] > CLEAR_MARGIN
    same = np.eye(len(before), dtype=bool)
    clear &= ~(same[:, :, None] | same[:, None, :])
    swapped = clear & (after[:, :, None] <= after[:, None, :])
    return Agreement(reference.texts, tuple(map(float, cosines)), int(swapped.sum()), int(clear.sum()))


def place_of(texts: Sequence[str], salt: int) -> int:
    """Where a canary goes among texts: not always the same place, and never the middle, which reversing leaves as it is."""
    place = salt % (len(texts) + 1)
    return place + 1 if 2 * place == len(texts) else place
