"""The line put before a chunk when it is embedded: where in which document the chunk stands."""

from collections.abc import Iterable, Set

from rag_assets.chunking.cost import CHARACTERS_PER_TOKEN, CostMeter
from rag_assets.chunking.layout import normalized

_SEPARATOR = " > "
_SHARE = 4
"""A context line takes at most a quarter of the budget, so that a chunk is mostly its own words."""


def heading_line(title: str, headings: Iterable[str], opening: Set[str] = frozenset()) -> str:
    """ "Title > H1 > H2" without the parts in ``opening`` (as ``normalized``) and without a repeated title."""
    path = [" ".join(heading.split()) for heading in headings]
    if not path or normalized(path[0]) != normalized(title):
        path.insert(0, title)
    return _SEPARATOR.join(part for part in path if part and normalized(part) not in opening)


class ContextFitter:
    """Shortens context lines to their share of the budget, each different line once."""

    def __init__(self, meter: CostMeter) -> None:
        self._meter = meter
        self._most = meter.limit // _SHARE
        self._fitted: dict[str, tuple[str, int]] = {"": ("", 0)}

    def prepare(self, lines: Iterable[str]) -> None:
        """Fit all ``lines`` at once: one call of the tokenizer a round, and few lines need a second one."""
        pending = {line: line for line in dict.fromkeys(lines) if line not in self._fitted}
        while pending:
            costs = self._meter.costs([f"{fitted}\n" for fitted in pending.values()])
            retry = {}
            for (line, fitted), cost in zip(pending.items(), costs, strict=True):
                if cost <= self._most or not fitted:
                    self._fitted[line] = (fitted, cost if fitted else 0)
                else:
                    retry[line] = self._shortened(fitted, cost)
            pending = retry

    def line(self, line: str) -> str:
        """A prepared line within its share: whole words from its beginning, else nothing."""
        return self._fitted[line][0]

    def cost(self, line: str) -> int:
        """The cost of that line and the line break after it."""
        return self._fitted[line][1]

    def _shortened(self, line: str, cost: int) -> str:
        keep = min(len(line) * self._most // cost, CHARACTERS_PER_TOKEN * self._most, len(line) - 1)
        words = line[: keep + 1].rsplit(None, 1)
        return (words[0] if len(words) > 1 else line[:keep]).rstrip(" >|")
