"""Sections of a document, and which neighbours belong together in one chunk."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from rag_assets.chunking.layout import TITLE
from rag_assets.models import Element

_SMALL_SHARE = 4
"""A section is small below a quarter of the budget: alone it would be a chunk that says little."""


@dataclass(frozen=True, slots=True)
class Section:
    """Consecutive elements: one section, or several that are cut together."""

    first: int
    stop: int
    """Its elements are those from ``first`` up to, not including, ``stop``."""
    path: tuple[str, ...]
    """Heading path of the first element."""
    cost: int
    room: int
    """What fits into one chunk of this section."""
    only_headings: bool


def sections_of(elements: Sequence[Element], costs: Sequence[int], rooms: Sequence[int]) -> list[Section]:
    """Cut the elements at every heading and wherever the heading path changes.

    ``costs`` and ``rooms`` are per element: what it costs, and what fits into a chunk under its heading path.
    """
    numbers: list[int] = []
    for index, element in enumerate(elements):
        starts = index == 0 or element.kind == TITLE or element.headings != elements[index - 1].headings
        numbers.append(numbers[-1] + starts if numbers else 0)
    sections = []
    for _, group in groupby(range(len(elements)), key=numbers.__getitem__):
        members = [*group]
        first, stop = members[0], members[-1] + 1
        only_headings = all(elements[index].kind == TITLE for index in members)
        cost, room = sum(costs[first:stop]), min(rooms[first:stop])
        sections.append(Section(first, stop, elements[first].headings, cost, room, only_headings))
    return sections


def merge_small(sections: Sequence[Section]) -> list[Section]:
    """Put small neighbours together while the result fits one chunk, and headings with what they head.

    Only what lies under the parent heading of the first one joins: its siblings and all descendants. The tail of one
    chapter never joins the next.
    """
    merged: list[Section] = []
    for section in sections:
        if merged and _belong_together(merged[-1], section):
            merged[-1] = _joined(merged[-1], section)
        else:
            merged.append(section)
    return merged


def _belong_together(group: Section, section: Section) -> bool:
    parent = group.path[:-1]
    if section.path[: len(parent)] != parent:
        return False
    if group.only_headings:
        return True
    joined = _joined(group, section)
    return joined.cost <= joined.room and min(group.cost, section.cost) <= joined.room // _SMALL_SHARE


def _joined(group: Section, section: Section) -> Section:
    return Section(
        group.first,
        section.stop,
        group.path,
        group.cost + section.cost,
        min(group.room, section.room),
        group.only_headings and section.only_headings,
    )
