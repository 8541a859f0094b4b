"""Errors a person is meant to read: each names the thing, the reason and the cure.

The exit code of the command line is part of the error, so that no caller has to guess it.
"""


class RagAssetsError(Exception):
    """The work failed for a reason we can name (exit code 1)."""

    exit_code = 1


class ConfigurationError(RagAssetsError):
    """A setting, an argument or the way we were called is wrong (exit code 2)."""

    exit_code = 2


class GateRefused(RagAssetsError):
    """The work was done but a gate did not let its result go live (exit code 3)."""

    exit_code = 3


class Superseded(RagAssetsError):
    """Another run wrote this shard since we read it; what we had not written yet is dropped (exit code 1)."""


class NotEmbedded(Superseded):
    """Chunks have no vector: `embeddings` was not run, or garbage was collected between it and this; run the shard again."""


class DatabaseLost(RagAssetsError):
    """The connection broke under a transaction, which is rolled back (or, if it broke at the very end, may be committed).

    Every write can be repeated, so doing the work again is always right (exit code 1).
    """


class UnparsableDocument(RagAssetsError):
    """One document could not be parsed; it is quarantined with this reason and the shard goes on."""
