"""What stands outside PostgreSQL follows the ledger: what a run left undone is done by the next, whatever ended that run."""

from rag_assets.database import generations
from rag_assets.database.generations import Generation
from rag_assets.runtime import Runtime
from rag_assets.stores.protocol import Store


def catch_up(runtime: Runtime, collection: str) -> None:
    """Send what is outstanding of every generation, announce the live one, and drop what belongs to none.

    Raises:
        RagAssetsError: a store could not be brought up to date; what it lacks stays noted.
    """
    with runtime.database.transaction() as connection:
        known = generations.all_generations(connection, collection)
    for generation in known:
        runtime.store_of(generation).catch_up(runtime.database, generation)
    announce(runtime, collection, known)
    sweep(runtime, collection, known)


def announce(runtime: Runtime, collection: str, known: list[Generation]) -> None:
    """Let readers outside see what is live, and nothing in the stores that are not."""
    live = next((generation for generation in known if generation.is_live), None)
    home = runtime.store_of(live) if live else None
    if home is not None:
        home.announce(runtime.database, collection, live)
    for store in _stores(runtime, collection, known):
        if store is not home:
            store.announce(runtime.database, collection, None)


def sweep(runtime: Runtime, collection: str, known: list[Generation]) -> list[str]:
    """Delete what stands outside of generations that are gone; returns names."""
    return [name for store in _stores(runtime, collection, known) for name in store.sweep(runtime.database)]


def _stores(runtime: Runtime, collection: str, known: list[Generation]) -> list[Store]:
    """The store the configuration asks for, and those of the generations; each once."""
    every = [runtime.store(collection), *(runtime.store_of(generation) for generation in known)]
    return list({store.name: store for store in every}.values())
