"""Lets unstructured label elements without a network: the one place that touches its private spaCy loader.

unstructured downloads spaCy's ``en_core_web_sm`` when it is missing, for every file again, and installs it into
site-packages. It reads from the model only sentences, words and whether a word is a verb, to tell a title from a
sentence. ``RuleTagger`` answers those three questions by rule. Where the real model is installed, it is used.

Written against unstructured 0.27 (``unstructured.nlp.tokenize._get_nlp`` and what ``_process`` does with it).
"""

import importlib
import importlib.util
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

MODEL = "en_core_web_sm"
_READ = 2000
"""Characters looked at: a title is far shorter, and the first sentences show what a paragraph is."""
_WORD = re.compile(r"\w+(?:['\u2019]\w+)?|[^\w\s]")
_SENTENCE = re.compile(r".+?(?:[.!?…。\uff01\uff1f؟।]+[\"'”\u2019)\]]*(?=\s|$)|[。\uff01\uff1f]|$)", re.DOTALL)
_VERB_LIST = """
    am are is was were be been being isn't aren't wasn't weren't has have had having do does did doing done can could
    will would shall should may might must cannot can't won't don't doesn't didn't let's it's that's go goes went gone
    get gets got give gives gave given take takes took taken make makes made see sees saw seen say says said know knows
    knew known think thinks thought come comes came become becomes became find finds found use uses keep keeps kept
    show shows shown tell tells told leave leaves left begin begins began mean means meant need needs want wants seem
    seems help helps run runs ran set sets put puts hold holds held bring brings brought write writes wrote written
    provide provides include includes contain contains require requires allow allows cause causes occur occurs affect
    affects follow follows call calls work works read reads lead leads led build builds built send sends sent
"""
_VERBS = frozenset(_VERB_LIST.split())
_VERB_ENDING = re.compile(r"(?:[a-z]{3,}(?:ed|ing|ize|izes|ise|ises|ify|ifies))$")


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    tag_: str


@dataclass(frozen=True, slots=True)
class _Span:
    text: str


@dataclass(frozen=True, slots=True)
class _Doc:
    """The part of ``spacy.tokens.Doc`` that unstructured reads."""

    text: str

    def __iter__(self) -> Iterator[_Token]:
        for word in _WORD.findall(self.text):
            yield _Token(word, "VB" if _is_verb(word) else "NN")

    @property
    def sents(self) -> Iterator[_Span]:
        return (_Span(sentence.strip()) for sentence in _SENTENCE.findall(self.text) if sentence.strip())


def _is_verb(word: str) -> bool:
    lowered = word.lower().replace("\u2019", "'")
    return lowered in _VERBS or _VERB_ENDING.search(lowered) is not None


class RuleTagger:
    """Stands in for a loaded spaCy pipeline."""

    max_length = sys.maxsize

    def __call__(self, text: str) -> _Doc:
        """Words, verbs and sentences of the beginning of ``text``."""
        return _Doc(text[:_READ])


def install() -> None:
    """Make unstructured use the real spaCy model if it is installed, else ``RuleTagger``; nothing is downloaded.

    Call once, before the first partitioner is imported.
    """
    # spaCy imports torch only to know its version: without it a parsing process starts in half the time and memory.
    sys.modules.setdefault("torch", None)  # type: ignore[arg-type]
    ruled = importlib.util.find_spec(MODEL) is None
    _leave_out_what_asks_a_network()
    # Without its model spaCy is never asked anything, and importing it is a third of the start of a parsing process.
    stand_in = ruled and "spacy" not in sys.modules
    if stand_in:
        sys.modules["spacy"] = ModuleType("spacy")
    from unstructured.nlp import tokenize

    if stand_in:
        del sys.modules["spacy"]
    if ruled:
        tagger = RuleTagger()
        tokenize._get_nlp = lambda: tagger  # type: ignore[assignment]
    # A library for one function of many, and the table of 8,000 languages, which takes a quarter of the start of a parsing process:
    # most formats never ask for either.
    _import_cleaners()
    _import_later("iso639", "unstructured.partition.common.lang")
    # The way from HTML by an ontology, which nobody here takes: a quarter of the start of a process that reads pages.
    _call_later("unstructured.partition.html.transformations")


def _leave_out_what_asks_a_network() -> None:
    """What reports its use home does nothing, and the HTTP client is imported by whoever fetches a page: nobody, in a parsing process,
    where importing it takes a fifth of the start and the audit hook would refuse the connection."""
    if "unstructured" in sys.modules:
        return
    telemetry = ModuleType("unstructured.telemetry")
    telemetry.__getattr__ = _nothing  # type: ignore[method-assign]
    telemetry.partition_runtime_telemetry = lambda kind=None: lambda partitioner: partitioner  # type: ignore[attr-defined]
    sys.modules[telemetry.__name__] = telemetry
    _call_later("unstructured.safe_http")
    _import_later("requests", "unstructured.utils")


def _nothing(name: str) -> Callable[..., None]:
    if name.startswith("__"):
        raise AttributeError(name)
    return lambda *_, **__: None


class _WithoutPunctuation(dict[int, int | None]):
    """What ``str.translate`` makes of every character: nothing of punctuation (category P), the character itself of another."""

    def __missing__(self, code: int) -> int | None:
        found = None if unicodedata.category(chr(code)).startswith("P") else code
        self[code] = found
        return found

    def copy(self) -> dict[int, int | None]:
        """The punctuation of all of Unicode, as unstructured has it."""
        return dict.fromkeys(code for code in range(sys.maxunicode) if self[code] is None)


def _import_cleaners() -> None:
    """``unstructured.cleaners.core``, which looks at every character of Unicode when it is imported, half the start of a parsing
    process: here it thinks there are none, and its table finds out about a character when it meets it."""
    name = "unstructured.cleaners.core"
    if name in sys.modules:
        return
    # What it imports is to have the real one.
    for needed in ("unstructured.file_utils.encoding", "unstructured.nlp.patterns"):
        importlib.import_module(needed)
    stand_in = ModuleType("sys")
    stand_in.__getattr__ = lambda attribute: getattr(sys, attribute)  # type: ignore[method-assign]
    stand_in.maxunicode = 0  # type: ignore[attr-defined]
    modules = sys.modules
    modules["sys"] = stand_in
    try:
        _import_later("numpy", name)
        # Not yet, where numpy was there already.
        cleaners: Any = importlib.import_module(name)
    finally:
        modules["sys"] = sys
    cleaners.sys = sys
    cleaners.tbl = _WithoutPunctuation()


def _import_later(library: str, importer: str) -> None:
    """Import a module with a stand-in for a library that it imports whole; the library is loaded when it is first used."""
    if library in sys.modules or importer in sys.modules:
        return
    stand_in = ModuleType(library)
    stand_in.__getattr__ = lambda name: getattr(importlib.import_module(library), name)  # type: ignore[method-assign]
    sys.modules[library] = stand_in
    try:
        importlib.import_module(importer)
    finally:
        del sys.modules[library]


def _call_later(library: str) -> None:
    """Let the functions of a module be imported by name, and load it when one of them is called."""
    if library in sys.modules:
        return
    stand_in = ModuleType(library)

    def function(name: str) -> Callable[..., object]:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*arguments: object, **options: object) -> object:
            if sys.modules.get(library) is stand_in:
                del sys.modules[library]
            return getattr(importlib.import_module(library), name)(*arguments, **options)

        return call

    stand_in.__getattr__ = function  # type: ignore[method-assign]
    sys.modules[library] = stand_in
