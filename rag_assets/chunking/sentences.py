"""Where sentences begin and end, in any language, without a model.

A rule-based splitter: good enough to cut chunks and to quote answers, linear in the length of the text, and it errs
towards too few boundaries, because half a sentence misleads more than two together.
"""

import re

_ABBREVIATIONS = frozenset(
    """
    adm approx apt art ave bzgl bzw ca capt cf ch col corp dept dipl dr ed eds eq eqs esp est ex fig figs gen gov hon
    inc jr lt ltd maj mr mrs ms mt nr núm op os pp prof resp rev sec sen sgt sr sra st tab univ vgl vol vols vs
    jan feb mar apr jun jul aug sep sept oct nov dec
    """.split()  # noqa: SIM905 - twenty to a line reads better than one quoted word a line
)
"""Words that end with a full stop inside a sentence, followed by a capital or a digit ("Dr. Who", "fig. 3")."""

_BEFORE_NUMBERS = frozenset({"al", "art", "ch", "cl", "no", "nos", "p", "par", "s", "т", "ст"})
"""Abbreviations that are also words or ends of sentences: only before a digit do they go on ("no. 5")."""

_CLOSERS = "\"'”’»›)\\]}）」』】》〉"
_BOUNDARY = re.compile(
    rf"(?P<full>[。！？｡।॥؟۔።။។։]++[{_CLOSERS}]*+)"  # ends a sentence with or without a space after it
    rf"|(?P<maybe>[.!?…]++[{_CLOSERS}]*+)"  # ends one only before white space or a script without spaces
    r"|(?P<line>\n\s*+)"
)
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
"""Kana and ideographs: the scripts that follow a Western full stop without a space."""
_NEXT = re.compile(r"\s*+[\"'“‘«‹(\[{¿¡（「『【《〈]*+(\S)")
_INITIALS = re.compile(r"[^\W\d_](?:\.[^\W\d_])*")
"""One letter, or letters with dots between: "J", "e.g", "U.S"."""


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Spans ``(start, end)`` of the sentences of ``text``, in order, without surrounding white space.

    They do not overlap and together hold every non-space character. A line break ends a sentence unless the next line
    goes on in lower case, as hard-wrapped prose does. "Dr.", "e.g.", "U.S.", initials, "3.5" and the number that opens
    a list item do not end one.
    """
    spans: list[tuple[int, int]] = []
    start = 0
    for match in _BOUNDARY.finditer(text):
        if match["full"] or _is_boundary(text, start, match):
            _append(spans, text, start, match.end())
            start = match.end()
    _append(spans, text, start, len(text))
    return spans


def _append(spans: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    sentence = text[start:end]
    body = sentence.strip()
    if body:
        start += len(sentence) - len(sentence.lstrip())
        spans.append((start, start + len(body)))


def _is_boundary(text: str, start: int, match: re.Match[str]) -> bool:
    following = _NEXT.match(text, match.end())
    if following is None:
        return True
    if match["line"]:
        return match.group().count("\n") > 1 or not following[1].islower()
    after = text[match.end()]
    if _UNSPACED.match(after):
        return True
    if not after.isspace() or following[1].islower():
        return False
    return match.group() != "." or not _is_abbreviation(text, start, match.start(), following[1])


def _is_abbreviation(text: str, start: int, stop: int, following: str) -> bool:
    """Whether the full stop at ``stop`` belongs to the word before it. Words over 24 characters are none."""
    words = text[max(start, stop - 24) : stop].split()
    word = words[-1].strip("\"'“‘«(-–—[") if words else ""
    if word.isdecimal():
        return not text[start : stop - len(word)].strip()
    folded = word.casefold()
    if folded in _BEFORE_NUMBERS and not following.isdecimal():
        return len(word) == 1
    return folded in _ABBREVIATIONS or folded in _BEFORE_NUMBERS or _INITIALS.fullmatch(word) is not None
