"""Analysis: a text becomes the terms that lexical search counts – words, less stop words, cut to their stems.

Every word is treated by its script. Scripts that are written without spaces (and Hangul, whose words carry their particles)
give overlapping pairs of characters, as Lucene's CJKAnalyzer does. Words of the other scripts are stemmed by the Snowball stemmer
of their script's language. The Latin script has many: the language of a text is the one whose function words it has most of.

English text gives exactly what ``bm25s.tokenize`` gives with its English stop words and the Snowball English stemmer.
Nothing here fails on any string, asks a network, or depends on chance or on other texts.
"""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from importlib import metadata, resources
from itertools import pairwise

import Stemmer

from rag_assets.fingerprint import fingerprint
from rag_assets.settings import LexicalSettings

ANALYZER_VERSION = 1
"""Raised whenever the same text and settings would give other terms: every lexical index is then made again."""

MAX_TERM_CHARACTERS = 64
"""A longer word is kept as its beginning and a hash of it: still exact, and PostgreSQL can index it."""
_REMEMBERED = 500_000
"""Words whose terms are remembered; enough for a corpus' vocabulary, bounded for a stream of noise."""

LATIN_LANGUAGES = (
    "english", "danish", "dutch", "finnish", "french", "german", "hungarian", "italian", "norwegian", "portuguese", "spanish",
    "swedish", "turkish",
)  # fmt: skip
"""Languages told apart by their function words; the first is the one of texts that have none."""
_CODES = {language: code for code, language in enumerate(LATIN_LANGUAGES, start=1)}
UNKNOWN = 0
"""In place of a language's code: too few function words to tell. Such text is treated as English."""

# First code point of a block, and whose it is; "" is everything that is not listed (Latin, digits, rare scripts).
_BLOCKS = (
    (0x0000, "latin"), (0x0370, "greek"), (0x0400, "russian"), (0x0530, "armenian"), (0x0590, "hebrew"), (0x0600, "arabic"),
    (0x0780, ""), (0x0900, "hindi"), (0x0980, ""), (0x0B80, "tamil"), (0x0C00, ""), (0x0E00, "pairs"), (0x0F00, ""),
    (0x1000, "pairs"), (0x10A0, ""), (0x1100, "pairs"), (0x1200, ""), (0x1780, "pairs"), (0x1800, ""), (0x1E00, "latin"),
    (0x1F00, "greek"), (0x2000, ""), (0x2E80, "pairs"), (0x3000, ""), (0x3005, "pairs"), (0x3008, ""), (0x3031, "pairs"),
    (0xA000, ""), (0xAC00, "pairs"), (0xD800, ""), (0xF900, "pairs"), (0xFB00, "latin"), (0xFB1D, "hebrew"),
    (0xFB50, "arabic"), (0xFE00, ""), (0xFE70, "arabic"), (0xFF00, ""), (0x1AFF0, "pairs"), (0x1B170, ""),
    (0x20000, "pairs"), (0x323B0, ""),
)  # fmt: skip
_STARTS = tuple(start for start, _ in _BLOCKS)
_ONE_LANGUAGE = {script: script for script in ("greek", "russian", "armenian", "arabic", "hindi", "tamil")}
"""Language of the scripts that are taken to have one; words of others are not stemmed."""
_ASCII_WORD = re.compile(r"\w\w+", re.ASCII)
# Soft hyphen, zero-width joiners and the byte-order mark stand inside words and are no part of them.
_INVISIBLE = dict.fromkeys((173, 8204, 8205, 8288, 65279))
_FULL_WIDTH = re.compile(r"[\uff00-\uffef]+")


@dataclass(frozen=True, slots=True)
class Analysis:
    """A text as lexical search sees it."""

    terms: list[str]
    """In reading order, repeated as often as they occur."""
    language: int
    """Code of the language its Latin words were treated as: 1 + its place in ``LATIN_LANGUAGES``, or ``UNKNOWN``."""


class Analyzer:
    """One way to make terms of texts; use :func:`analyzer`, which keeps what it has learnt of words."""

    def __init__(self, language: str, *, stop_words: bool) -> None:
        self._stop_words = stop_words
        self._forced = None if language == "auto" else language
        self._terms: dict[str, _TermsOfWord] = {}

    def analyze(self, text: str) -> Analysis:
        """The terms of a passage."""
        words = split_words(text)
        code = UNKNOWN if self._forced else detect(words)
        return Analysis(self._of(words, code), code)

    def analyze_query(self, text: str, languages: Mapping[int, int]) -> list[str]:
        """The terms of a question, treated as the passages it should find.

        Args:
            text: the question. Few words tell no language for sure.
            languages: passages by language code. Where the question's own function words speak for none of the
                languages that make up at least 5 % of them, it is taken to be in the most frequent one.
        """
        words = split_words(text)
        known = {code: count for code, count in languages.items() if code != UNKNOWN and count}
        if self._forced or not known:
            return self._of(words, UNKNOWN)
        usual = max(known, key=lambda code: (known[code], -code))
        hits = function_words(words)
        enough = 0.05 * sum(known.values())
        spoken = {code: hits.get(code, 0.0) for code, count in known.items() if count >= enough}
        best = max(spoken, key=lambda code: (spoken[code], code == usual, -code), default=usual)
        return self._of(words, best)

    def _of(self, words: Iterable[str], code: int) -> list[str]:
        language = self._forced or LATIN_LANGUAGES[max(0, code - 1)]
        if language not in self._terms:
            languages = None if self._forced else {**_ONE_LANGUAGE, "latin": language}
            self._terms[language] = _TermsOfWord(languages, language, self._stop_words)
        known = self._terms[language]
        return [term for word in words for term in known[word]]


class _TermsOfWord(dict[str, tuple[str, ...]]):
    """The terms of a word, computed when first asked for."""

    def __init__(self, languages: Mapping[str, str] | None, language: str, stop_words: bool) -> None:
        """``languages`` by script; None: every word is of ``language``."""
        super().__init__()
        self._languages = languages
        self._language = language
        self._stop_words = stop_words

    def __missing__(self, word: str) -> tuple[str, ...]:
        found = self._terms(word)
        if len(word) <= MAX_TERM_CHARACTERS:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[word] = found
        return found

    def _terms(self, word: str) -> tuple[str, ...]:
        if self._languages is None or word.isascii():
            return self._stemmed(word, self._language)
        scripts = [script_of(character) for character in word]
        if "pairs" in scripts:
            return tuple(self._pieces(word, scripts))
        if len(word) < 2:
            return ()
        # Only a word wholly of one other script is that script's: µm and 17α are what they are among Latin words.
        own = {script for script, character in zip(scripts, word, strict=True) if not _is_mark(character)}
        script = own.pop() if len(own) == 1 else "latin"
        if script == "hebrew":  # vowel points are rarely written
            word = "".join(character for character in word if not _is_mark(character))
        return self._stemmed(word, self._languages.get(script, "none"))

    def _pieces(self, word: str, scripts: Sequence[str]) -> Iterable[str]:
        """Runs of characters without spaces as pairs; what stands between them as words."""
        start = 0
        while start < len(word):
            pairs = scripts[start] == "pairs"
            end = start + 1
            while end < len(word) and ((scripts[end] == "pairs") == pairs or _is_mark(word[end])):
                end += 1
            if pairs:
                yield from _pairs(word[start:end])
            else:
                yield from self[word[start:end]] if end - start > 1 else ()
            start = end

    def _stemmed(self, word: str, language: str) -> tuple[str, ...]:
        if len(word) < 2 or (self._stop_words and word in stop_list(language)):
            return ()
        return (bounded(word if language == "none" else _stemmer(language).stemWord(word)),)


def analyzer(settings: LexicalSettings) -> Analyzer:
    """The analyzer some settings ask for; equal settings share one."""
    return _analyzer(settings.language, settings.stop_words)


@cache
def _analyzer(language: str, stop_words: bool) -> Analyzer:
    return Analyzer(language, stop_words=stop_words)


def analyzer_fingerprint(settings: LexicalSettings) -> str:
    """The digest of everything besides the text that decides its terms."""
    return fingerprint(
        {
            "version": ANALYZER_VERSION,
            "language": settings.language,
            "stop_words": settings.stop_words,
            "PyStemmer": _stemmer_version(),
            "unicode": unicodedata.unidata_version,
        }
    )


@cache
def _stemmer_version() -> str:
    """Read from the package's files, once a process."""
    return metadata.version("PyStemmer")


def split_words(text: str) -> list[str]:
    """The words of a text in lower case, composed (NFC); single characters only where scripts have no spaces."""
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    text = unicodedata.normalize("NFC", text.translate(_INVISIBLE))
    text = _FULL_WIDTH.sub(lambda run: unicodedata.normalize("NFKC", run[0]), text)
    # The capital of the Turkish i would become an i with a second dot.
    return [
        word for word in _word().findall(text.replace("İ", "i").lower()) if len(word) > 1 or script_of(word) == "pairs"
    ]


def detect(words: Sequence[str]) -> int:
    """Code of the Latin language whose function words clearly prevail, else ``UNKNOWN``."""
    hits = function_words(words)
    if not hits:
        return UNKNOWN
    first, *rest = sorted(hits.items(), key=lambda item: (-item[1], item[0]))
    clear = first[1] >= max(2, 0.05 * len(words)) and (not rest or first[1] > 1.25 * rest[0][1])
    return first[0] if clear else UNKNOWN


def function_words(words: Iterable[str]) -> dict[int, float]:
    """How much the function words of a text speak for each language: a word that n languages share counts 1/n for each."""
    hits: dict[int, float] = {}
    spoken = _languages_of_function_words()
    for word in words:
        languages = spoken.get(word)
        if languages is not None:
            for code in languages:
                hits[code] = hits.get(code, 0.0) + 1 / len(languages)
    return hits


def bounded(term: str) -> str:
    """The term, or where it is too long for PostgreSQL's index its beginning and its hash."""
    if len(term) <= MAX_TERM_CHARACTERS:
        return term
    digest = blake2b(term.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return f"{term[: MAX_TERM_CHARACTERS // 2 - 1]}#{digest}"


def script_of(character: str) -> str:
    """Whose block a character stands in: ``pairs`` where words have no spaces, "" where none is known."""
    return _BLOCKS[bisect_right(_STARTS, ord(character)) - 1][1]


def _pairs(run: str) -> list[str]:
    clusters: list[str] = []
    for character in run:
        if clusters and _is_mark(character):
            clusters[-1] += character
        else:
            clusters.append(character)
    if len(clusters) == 1:
        return [bounded(clusters[0])]
    return [bounded(a + b) for a, b in pairwise(clusters)]


def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] == "M"


@cache
def _word() -> re.Pattern[str]:
    """Words with the marks that belong to their letters, which ``\\w`` alone cuts at (as in Devanagari)."""
    # Inline, for it looks at 130,000 characters.
    category = unicodedata.category
    marks = re.escape("".join(c for c in map(chr, range(0x20000)) if category(c) in ("Mn", "Mc", "Me")))
    return re.compile(rf"\w[\w{marks}]*")


@cache
def _stemmer(language: str) -> "Stemmer.Stemmer":
    # Its own memory of words is off: ours is larger and needs no second one.
    return Stemmer.Stemmer(language, 0)


@cache
def _stop_lists() -> Mapping[str, frozenset[str]]:
    text = (resources.files("rag_assets.stores") / "stop_words.txt").read_text(encoding="utf-8")
    lines = [line.partition(":") for line in text.splitlines() if line and not line.startswith("#")]
    return {name: frozenset(words.split()) for name, _, words in lines}


def stop_list(language: str) -> frozenset[str]:
    """Words of a language that are left out; none where no list is known."""
    return _stop_lists().get(language, frozenset())


@cache
def _languages_of_function_words() -> Mapping[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for language, code in _CODES.items():
        for word in stop_list("english-function" if language == "english" else language):
            found[word] = (*found.get(word, ()), code)
    return found
