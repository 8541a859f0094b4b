"""Is the live index still as good as a new one? When not, the nightly run builds another beside it, and judges that.

pgvector marks deleted rows in the graph and repairs it in vacuum; recall of a graph that was changed much is measurably lower
than that of a new one (its tests ask for 0.99 after a build and 0.95 after churn), so it is not changed in place for ever.
"""

from rag_assets.database.generations import Generation
from rag_assets.evaluation import store
from rag_assets.indexing import rebuilding
from rag_assets.runtime import Runtime

MIN_CHURN = 1000
"""Fewer rows than this are no reason: a small index answers from few hops whatever was done to it."""


def complaints(runtime: Runtime, live: Generation) -> list[str]:
    """Why the live index should be built anew; empty when it is well."""
    found = []
    share = runtime.settings.sync.rebuild_churn_share
    if live.churned_rows >= MIN_CHURN and live.churned_rows > share * live.built_rows:
        found.append(
            f"{live.churned_rows:,} rows were written or deleted since its graph was built from {live.built_rows:,}"
        )
    with runtime.database.transaction(snapshot=True) as connection:
        if not runtime.store_of(live).has_index(connection, live):
            found.append("it has no valid HNSW index")
    evaluated = store.latest_or_none(runtime, live)
    if evaluated is not None:
        failed = [c.text for c in evaluated[1].checks if c.name.startswith("ann_recall") and c.passed is False]
        found += [text.rstrip(".") for text in failed]
    return found


def begin_rebuild(runtime: Runtime, collection: str) -> tuple[str, ...]:
    """Begin a new generation beside the live one if that one's health asks for it; returns the reasons.

    Not where the configuration asks for another index anyway, nor where a person rolled the last rebuild back.
    """
    live = runtime.live(collection)
    if live is None or live.key != runtime.key(collection):
        return ()
    reasons = complaints(runtime, live)
    if not reasons:
        return ()
    return tuple(reasons) if rebuilding.begin(runtime, live) else ()
