"""The store of a name. A further one is made here, and named in ``settings/model.py``."""

from rag_assets.errors import ConfigurationError
from rag_assets.settings import Settings
from rag_assets.stores.postgres import PostgresStore
from rag_assets.stores.protocol import Store


def build_store(kind: str, settings: Settings) -> Store:
    """Make a store; nothing is connected yet.

    Raises:
        ConfigurationError: there is none of that name.
    """
    if kind == "pgvector":
        return PostgresStore()
    if kind == "weaviate":
        from rag_assets.stores.weaviate.store import WeaviateStore

        return WeaviateStore(settings)
    raise ConfigurationError(f"There is no store {kind!r}; known: pgvector, weaviate. Correct `store` in the settings.")
