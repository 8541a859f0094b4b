"""A new index beside the live one: begun by the nightly run when the live one has worn out, or by a sync that would change so
much of it that loading everything anew and building one graph costs less than changing the graph row by row.
"""

from rag_assets.database import generations
from rag_assets.database.generations import Generation
from rag_assets.failpoints import failpoint
from rag_assets.indexing.planning import Planned
from rag_assets.plan import Kind
from rag_assets.runtime import Runtime
from rag_assets.stores import pgvector
from rag_assets.stores.protocol import Connection

_OUTDATED = """
    SELECT coalesce(d.doc_id, i.doc_id), num_nonnulls(d.doc_id, i.doc_id)
    FROM (SELECT * FROM document WHERE collection = %(collection)s) d
    FULL JOIN (SELECT * FROM indexed WHERE generation_id = %(generation)s) i USING (doc_id)
    WHERE d.document_hash IS DISTINCT FROM i.document_hash
"""


def begin(runtime: Runtime, live: Generation) -> bool:
    """Begin a generation of the live one's key beside it, unless one is begun; False: a person rolled the last one back."""
    with runtime.database.transaction() as connection:
        if _rolled_back(connection, live):
            return False
        for other in _of_its_key(connection, live):
            if other.state == "refused":
                runtime.store_of(other).drop(connection, other)
        begun = generations.begin_rebuild(connection, live)
        runtime.store_of(begun).create(connection, begun)
        failpoint("rebuild.begun")
    return True


def _of_its_key(connection: Connection, live: Generation) -> list[Generation]:
    return [other for other in generations.all_generations(connection, live.collection) if other.key == live.key]


def _rolled_back(connection: Connection, live: Generation) -> bool:
    return any(other.state == "withdrawn" for other in _of_its_key(connection, live))


def begin_if_cheaper(runtime: Runtime, planned: Planned) -> str | None:
    """Begin a rebuild, or go on with one, where :func:`reason` has one; returns it."""
    why = reason(runtime, planned)
    live = runtime.live(planned.plan.collection)
    return why if why and live and begin(runtime, live) else None


def reason(runtime: Runtime, planned: Planned) -> str | None:
    """Why a plan is better loaded into a new index beside the live one; None: it changes that in place."""
    plan, files = planned.plan, len(planned.have.files)
    share, fewest = runtime.settings.sync.rebuild_change_share, runtime.settings.sync.rebuild_change_rows
    # Measured for pgvector only: how a server of its own takes many changes is its own matter.
    if 2 * len(plan.changes) <= share * files or runtime.settings.store_of(plan.collection) != "pgvector":
        return None
    live = runtime.live(plan.collection)
    if live is None or live.key != runtime.key(plan.collection):
        return None
    with runtime.database.transaction(snapshot=True) as connection:
        if _rolled_back(connection, live):
            return None
        rows = pgvector.count(connection, live)
        outdated = connection.execute(_OUTDATED, {"collection": plan.collection, "generation": live.id}).fetchall()
    # A rebuild that was begun makes every document pending: a change is what the live index lacks.
    changes = [change for change in plan.changes if change.kind is not Kind.PENDING]
    once = (Kind.ADDED, Kind.REMOVED)
    # An edit deletes the old rows and writes new ones, as a removal and an addition do.
    touched = dict(outdated) | {change.doc_id: 1 if change.kind in once else 2 for change in changes}
    touches = sum(touched.values())
    if touches <= share * files or touches * max(1.0, rows / max(1, files)) < fewest:
        return None
    documents = files + sum(change.kind in (Kind.ADDED, Kind.RENAMED) for change in changes)
    return (
        f"{len(touched):,} of {documents:,} documents change at once, "
        f"which writes or deletes more than {share:.0%} as many rows as there are"
    )
