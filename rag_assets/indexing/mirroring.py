"""What stands outside PostgreSQL follows the ledger: what a run left undone is done by the next, whatever ended that run.

A store that the configuration asks for must answer. One that only an older generation is in need not: its server may be gone for
good, which must not keep anybody from leaving it. What it lacks stays noted.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rag_assets.database import generations
from rag_assets.database.generations import Generation
from rag_assets.errors import DatabaseLost, RagAssetsError
from rag_assets.runtime import Runtime
from rag_assets.stores.protocol import Store

_logger = logging.getLogger(__name__)


def catch_up(runtime: Runtime, collection: str) -> None:
    """Send what is outstanding of every generation, announce the live one, and drop what belongs to none.

    Raises:
        RagAssetsError: the configured store could not be brought up to date; what it lacks stays noted.
    """
    with runtime.database.transaction() as connection:
        known = generations.all_generations(connection, collection)
    for generation in known:
        store = runtime.store_of(generation)
        with tolerating(runtime, collection, store):
            store.catch_up(runtime.database, generation)
    announce(runtime, collection, known)
    sweep(runtime, collection, known)


def settle(runtime: Runtime, generation: Generation) -> None:
    """What follows a committed change of a generation's rows.

    Raises:
        RagAssetsError: the configured store could not be brought up to date; what it lacks stays noted.
    """
    store = runtime.store_of(generation)
    with tolerating(runtime, generation.collection, store):
        store.settle(runtime.database, generation)


def announce(runtime: Runtime, collection: str, known: Sequence[Generation]) -> None:
    """Let readers outside see what is live, and nothing in the stores that are not.

    Raises:
        RagAssetsError: the configured store failed.
    """
    live = next((generation for generation in known if generation.is_live), None)
    for store in _stores(runtime, collection, known):
        mine = live if live is not None and runtime.store_of(live).name == store.name else None
        with tolerating(runtime, collection, store):
            store.announce(runtime.database, collection, mine)


def sweep(runtime: Runtime, collection: str, known: Sequence[Generation]) -> list[str]:
    """Delete what stands outside of generations that are gone; returns names.

    Raises:
        RagAssetsError: the configured store failed.
    """
    deleted: list[str] = []
    for store in _stores(runtime, collection, known):
        with tolerating(runtime, collection, store):
            deleted += store.sweep(runtime.database)
    return deleted


@contextmanager
def tolerating(runtime: Runtime, collection: str, store: Store) -> Iterator[None]:
    """Let a store fail that the configuration no longer asks for, and say so in the log."""
    try:
        yield
    except RagAssetsError as error:
        if isinstance(error, DatabaseLost) or store.name == runtime.settings.store_of(collection):
            raise
        _logger.warning("%s of %r is left as it is: %s", store.name, collection, error)


def _stores(runtime: Runtime, collection: str, known: Sequence[Generation]) -> list[Store]:
    """The store the configuration asks for, and those of the generations; each once."""
    every = [runtime.store(collection), *(runtime.store_of(generation) for generation in known)]
    return list({store.name: store for store in every}.values())
