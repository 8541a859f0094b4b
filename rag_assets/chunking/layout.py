"""Where the elements of a document lie in its text, and what a span of that text is made of."""

from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate, takewhile

from rag_assets.models import Element, ParsedDocument

TITLE = "Title"
TABLE = "Table"
CODE = "CodeSnippet"


class Layout:
    """A document's text with the offsets of its elements. Element ``i`` owns ``text[starts[i]:starts[i + 1]]``."""

    def __init__(self, document: ParsedDocument) -> None:
        self.title = " ".join(document.title.split())
        self.text = document.text
        self.elements = document.elements
        separator = len("\n\n")
        lengths = (len(element.text) + separator for element in self.elements)
        self.starts = [*accumulate(lengths, initial=0)]
        if self.elements:
            self.starts[-1] = len(self.text)

    def owned(self, element: int) -> str:
        """The text of an element and the blank line after it."""
        return self.text[self.starts[element] : self.starts[element + 1]]

    def trimmed(self, start: int, end: int) -> tuple[int, int]:
        """The span without surrounding white space; a line of code keeps its indentation."""
        span = self.text[start:end]
        first = start + len(span) - len(span.lstrip())
        end = start + len(span.rstrip())
        if first < end and self.elements[self.element_at(first)].kind == CODE:
            return max(start, self.text.rfind("\n", start, first) + 1), end
        return first, max(first, end)

    def element_at(self, offset: int) -> int:
        """Index of the element that owns the character at ``offset``."""
        return bisect_right(self.starts, offset, hi=len(self.elements)) - 1

    def elements_of(self, start: int, end: int) -> tuple[Element, ...]:
        """The elements that share characters with a span that is not empty."""
        return self.elements[self.element_at(start) : self.element_at(end - 1) + 1]

    def opening_titles(self, start: int, end: int) -> set[str]:
        """The headings a span begins with, as ``normalized``."""
        titles: set[str] = set()
        for index in range(self.element_at(start), self.element_at(end - 1) + 1):
            if self.elements[index].kind != TITLE or not start <= self.starts[index] < end:
                break
            titles.add(normalized(self.elements[index].text))
        return titles

    def header_row(self, element: int) -> str:
        """The first row of a table, else nothing."""
        return self.elements[element].text.split("\n", 1)[0] if self.elements[element].kind == TABLE else ""


def normalized(heading: str) -> str:
    """A heading for comparison: white space and case don't matter."""
    return " ".join(heading.split()).casefold()


def common_path(paths: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """The heading path all ``paths`` begin with."""
    distinct = [*dict.fromkeys(paths)]
    shared = takewhile(lambda names: len(set(names)) == 1, zip(*distinct, strict=False))
    return tuple(names[0] for names in shared)
