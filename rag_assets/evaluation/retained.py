"""Any retained generation, found by its name, to be evaluated again."""

from rag_assets.database import generations
from rag_assets.database.generations import Generation
from rag_assets.errors import ConfigurationError, RagAssetsError
from rag_assets.runtime import Runtime
from rag_assets.stores import pgvector


def retained_generation(runtime: Runtime, collection: str, name: str) -> Generation:
    """The generation of that name, as ``status`` shows it (``handbook#3``); its number alone will do.

    Raises:
        ConfigurationError: there is none, or no longer; names those there are.
        RagAssetsError: it has no rows, or its model is not to be had any more.
    """
    with runtime.database.transaction() as connection:
        known = generations.all_generations(connection, collection)
        found = next((item for item in known if name in (item.name, str(item.sequence), f"#{item.sequence}")), None)
        rows = pgvector.count(connection, found) if found else 0
    if found is None:
        names = ", ".join(f"{item.name} ({item.state})" for item in known) or "none yet; run `rag-assets sync` first"
        raise ConfigurationError(
            f"Collection {collection!r} has no generation {name!r}: it never existed, or was dropped with its rows. "
            f"Retained are {names}. sync.keep_retired says how many replaced ones are kept."
        )
    if not rows:
        raise RagAssetsError(
            f"{found.name} ({found.state}) holds no rows, so there is nothing to search. Run `rag-assets sync`."
        )
    if runtime.settings.retrieval_of(collection).mode != "lexical":
        _check_model(runtime, found)
    return found


def _check_model(runtime: Runtime, generation: Generation) -> None:
    try:
        runtime.embedder_of(generation)
    except RagAssetsError as error:
        model = generation.config.get("embedder", {}).get("model", "?")
        raise RagAssetsError(
            f"{generation.name} ({generation.state}) can't be searched, because its model {model!r} is not available as it was: "
            f"{error} Questions must be embedded by the model of the chunks; with retrieval.mode = 'lexical' none is needed."
        ) from None
