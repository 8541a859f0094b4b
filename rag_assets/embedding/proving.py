"""Does a server run the model it should? Its vectors of the canaries against the reference, and what it does to long texts."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from rag_assets.embedding.canaries import Cutter, Reference, canaries, compare, endings
from rag_assets.embedding.endpoint import RequestFailed
from rag_assets.errors import ConfigurationError, RagAssetsError
from rag_assets.models import Embedder, Vectors

_LONGEST = 8192
"""Tokens of the longest chunk there can be."""
_SAME = 1e-5
"""Two unit vectors that differ less in every component are of texts that were truncated to the same one."""


class References(Protocol):
    """Where reference vectors are kept."""

    def find(self, fingerprint: str) -> Reference | None:
        """Those of a model, if any were ever kept."""
        ...

    def keep(self, fingerprint: str, reference: Reference) -> Reference:
        """Keep them unless there are some; returns those that are kept."""
        ...


class Served(Protocol):
    """A model on a server, as far as it is proved here."""

    name: str
    max_tokens: int

    @property
    def fingerprint(self) -> str:
        """Hash of what the model is known by."""
        ...

    @property
    def place(self) -> str:
        """The server, as messages name it."""
        ...

    def make(self, texts: Sequence[str]) -> Vectors:
        """What the server makes of texts."""
        ...


def prove(served: Served, references: References | None, copy: Embedder | None, cutter: Cutter) -> Reference:
    """Compare a server with the reference that is kept, else with a local copy of its model, else keep what it gives.

    Raises:
        ConfigurationError: it reads less than it should.
        RagAssetsError: it can't be reached, or gives other vectors; with the figures.
    """
    kept = references.find(served.fingerprint) if references else None
    expected = kept
    if expected is None and copy is not None:
        texts = canaries(cutter, served.max_tokens)
        expected = Reference(texts, copy.embed_documents(texts))
    texts = expected.texts if expected else canaries(cutter, served.max_tokens)
    got = _made(served, texts, max(cutter.count_tokens(texts)))
    whose = "those this index was made with" if kept else f"those of the local copy of {copy.name!r}" if copy else ""
    if expected:
        _refuse_other(served, expected, got, whose, kept is not None)
    if kept is not None:
        return kept
    _refuse_truncating(served, cutter)
    expected = expected or Reference(texts, got)
    if references:
        expected = references.keep(served.fingerprint, expected)
        # Another process may have been first.
        _refuse_other(served, expected, got, "those another process has just kept", True)
    return expected


def _refuse_other(served: Served, expected: Reference, got: Vectors, whose: str, kept: bool) -> None:
    if got.shape != expected.vectors.shape:
        figures = f"their dimension is {got.shape[1]}, not {expected.vectors.shape[1]}"
    else:
        agreement = compare(expected, got)
        if agreement.holds:
            return
        figures = str(agreement)
    raise RagAssetsError(
        f"{served.place} gives other vectors for {served.name!r} than {whose}: {figures}. Nothing was written. Let it serve the "
        "model it should; or, for an index of what it serves now, set embedder.revision to another text"
        + ("." if kept else " and embedder.parity to 'none'.")
    )


def _refuse_truncating(served: Served, cutter: Cutter) -> None:
    longest = min(served.max_tokens, _LONGEST)
    vectors = _made(served, endings(cutter, longest), longest)
    if np.abs(vectors[0] - vectors[1]).max() < _SAME:
        raise ConfigurationError(
            f"{served.place} truncates texts of {longest} tokens: another ending gives the same vector. {_cure(served)}"
        )


def _made(served: Served, texts: Sequence[str], longest: int) -> Vectors:
    try:
        return served.make(texts)
    except RequestFailed as failed:
        if failed.again:
            raise
        raise ConfigurationError(
            f"{failed} The longest text it was sent has {longest} tokens. {_cure(served)}"
        ) from None


def _cure(served: Served) -> str:
    return f"Set embedder.max_tokens to what the server reads (it is {served.max_tokens}), and chunking.max_tokens to no more."
