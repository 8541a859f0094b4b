"""The values that travel between the parts: plain, frozen, and free of any I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Vectors = npt.NDArray[np.float32]
    """Array of shape (n, dimension), float32, every row of unit length."""


def __getattr__(name: str) -> Any:
    # Importing numpy takes longer than all else a process needs that parses JSON, and there are no vectors in it.
    if name != "Vectors":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import numpy as np
    import numpy.typing as npt

    return npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One readable file in a listing."""

    path: bytes
    """Path relative to the source root, as the source spells it."""
    uri: str
    """The same path as people see it: POSIX separators, undecodable bytes and control characters escaped."""
    size: int
    """Bytes."""
    changed_ns: int
    """When it was last modified or replaced, nanoseconds since the epoch; where a source tells versions otherwise (by ETag),
    a number made from that. Only ever compared for equality."""


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """Something in the source that is not indexed, and why."""

    path: bytes
    uri: str
    reason: str
    unreadable: bool = False
    """True when the file may well exist but could not be read: what we have of it is kept, never deleted."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What a source holds. ``complete`` is False when any part could not be listed: nothing may be deleted then."""

    files: tuple[SourceFile, ...]
    skipped: tuple[SkippedFile, ...] = ()
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Element:
    """A paragraph, heading, list item, table or code block of a parsed document."""

    kind: str
    """unstructured's category: Title, NarrativeText, ListItem, Table, CodeSnippet, Text …"""
    text: str
    """Normalised text; never empty."""
    headings: tuple[str, ...] = ()
    """Headings above this element, outermost first; for a Title, itself is the last one."""
    page: int | None = None
    """Page, slide or sheet number, counted from 1."""


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """The text of one document, cut into elements in reading order."""

    title: str
    """Empty when the document states none and has no heading."""
    elements: tuple[Element, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """JSON-serialisable facts about the document: author, subject, sheet names, front matter …"""

    @property
    def text(self) -> str:
        """The whole text: elements joined by a blank line. Chunk spans are offsets into it."""
        return "\n\n".join(element.text for element in self.elements)


@dataclass(frozen=True, slots=True)
class ChunkDraft:
    """A chunk before it gets its identity: what a chunker returns."""

    text: str
    """What is shown of the document, in its exact words: ``document.text[start:end]``."""
    start: int
    end: int
    headings: tuple[str, ...] = ()
    page: int | None = None
    kinds: tuple[str, ...] = ()
    """Element kinds it is made of, without repeats, in order."""
    context: str = ""
    """Put before the embedded words (with a newline): title and heading path unless contextual chunks are off, and the header
    row where the chunk opens further down in a table."""
    tokens: int = 0
    """Length of ``embedded_text`` in the embedder's tokens, special tokens included."""
    embedded_span: tuple[int, int] | None = None
    """The part of the document that is embedded, inside ``start`` and ``end``; None: all of ``text``."""

    @property
    def embedded_part(self) -> str:
        """The words of the document that are embedded."""
        if self.embedded_span is None:
            return self.text
        return self.text[self.embedded_span[0] - self.start : self.embedded_span[1] - self.start]

    @property
    def embedded_text(self) -> str:
        """The exact text that is embedded, and hashed."""
        return f"{self.context}\n{self.embedded_part}" if self.context else self.embedded_part


Operator = Literal["=", "!=", "<", "<=", ">", ">=", "^="]


@dataclass(frozen=True, slots=True)
class Condition:
    """What one metadata field of a passage must be; several conditions must all hold.

    A field that is a list passes if any member does (``!=``: if none is equal). A field that is missing passes ``!=`` only.
    """

    field: str
    operator: Operator
    """``^=``: begins with."""
    values: tuple[str, ...]
    """As written; any of them for ``=`` and ``^=``, none of them for ``!=``, exactly one for the others."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One search result."""

    rank: int
    """Counted from 1."""
    document: str
    """The document's uri."""
    chunk_id: str
    text: str
    scores: Mapping[str, float | None]
    """Parts of the score: ``dense`` is the cosine similarity (−1 … 1), ``bm25`` Lucene's BM25 (≥ 0), ``fused`` what both add
    up to, ``rerank`` the reranker's. None: that side did not find it, or was not asked."""
    metadata: Mapping[str, Any]
    ranks: Mapping[str, int | None] = field(default_factory=dict)
    """Its rank by each of those scores alone, counted from 1."""
    duplicates: tuple[str, ...] = ()
    """Documents (uris) of worse ranked passages that say next to nothing else, and were left out for it."""
    collection: str = ""
    """The collection it was found in."""


class TokenCounter(Protocol):
    """Counts tokens as the embedding model does."""

    @property
    def max_tokens(self) -> int:
        """The longest input the model reads, special tokens included."""
        ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, special tokens included, without truncation."""
        ...


@runtime_checkable
class DocumentEncoder(TokenCounter, Protocol):
    """A ``TokenCounter`` that also gives vectors."""

    def embed_documents(self, texts: Sequence[str]) -> "Vectors":
        """One unit vector per text, in the order given."""
        ...


class Embedder(TokenCounter, Protocol):
    """Turns texts into unit vectors. Everything that decides a vector is in ``fingerprint``."""

    @property
    def name(self) -> str:
        """The model, as people call it."""
        ...

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides a vector."""
        ...

    @property
    def resolved(self) -> Mapping[str, Any]:
        """``[embedder]`` settings with nothing left to ``auto``: they make the same vectors on any machine that can."""
        ...

    @property
    def tokenizer_fingerprint(self) -> str:
        """Hash of the tokenizer, on which chunk borders depend."""
        ...

    def warm(self) -> None:
        """Load the model, if that takes time and has not been done. Any thread may call it."""
        ...

    def embed_documents(self, texts: Sequence[str]) -> "Vectors":
        """One unit vector per text, in the order given."""
        ...

    def embed_queries(self, texts: Sequence[str]) -> "Vectors":
        """As ``embed_documents``, with the model's query prompt where it has one."""
        ...


@runtime_checkable
class TokenEmbedder(Protocol):
    """An ``Embedder`` that also gives the vectors of single tokens, which late interaction compares."""

    def embed_document_tokens(self, texts: Sequence[str]) -> "list[Vectors]":
        """For each text, one unit vector per token the model reads of it, special tokens left out."""
        ...

    def embed_query_tokens(self, texts: Sequence[str]) -> "list[Vectors]":
        """As ``embed_document_tokens``, with the model's query prompt where it has one."""
        ...


@runtime_checkable
class CoverageMeter(Protocol):
    """What an embedder that knows its own vocabulary can do besides."""

    def coverage(self, text: str) -> float:
        """Share of the text's words, 0 to 1, that the model can read."""
        ...


@dataclass(frozen=True, slots=True)
class Spent:
    """What a server was asked for since the process began."""

    requests: int = 0
    """Failed ones included."""
    tokens: int = 0
    cost_usd: float | None = 0.0
    """None: no price is known."""


@runtime_checkable
class ServedEmbedder(Protocol):
    """An ``Embedder`` whose model runs on a server, where it can change and costs money."""

    @property
    def spent(self) -> Spent:
        """What it was asked for, reference texts included."""
        ...

    def usd_per_token(self) -> float | None:
        """Its price; None: unknown."""
        ...

    def prove(self) -> None:
        """Compare the server with the model's reference vectors, once a process; whatever embeds does it by itself.

        Raises:
            RagAssetsError: it can't be reached, or gives other vectors: none of them may be stored or searched with.
        """
        ...


class Progress(Protocol):
    """Hears how far a long step has come."""

    def __call__(self, step: str, done: int, total: int | None) -> None:
        """``done`` of ``total`` units of ``step`` (parse, chunk, embed, index …) are finished; None: unknown."""
        ...


def silent(step: str, done: int, total: int | None) -> None:
    """A ``Progress`` that says nothing."""
