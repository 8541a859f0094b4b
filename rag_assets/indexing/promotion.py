"""``live_index``: the flip that makes a generation answer queries, its way back, and what is dropped afterwards."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from rag_assets.database import generations
from rag_assets.database.generations import Generation
from rag_assets.errors import GateRefused, RagAssetsError
from rag_assets.failpoints import failpoint
from rag_assets.indexing import mirroring
from rag_assets.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Promotion:
    """What a promotion or a rollback did."""

    live: Generation
    previous: Generation | None
    changed: bool
    """False when the generation was live already."""


def promote(
    runtime: Runtime, generation: Generation, *, who: str, reason: str, replacing: int | None = generations.ANY
) -> Promotion:
    """Make ``generation`` live in one transaction; the gates are the caller's business.

    ``replacing`` is the id of the live generation that it was judged against, if that matters.

    Raises:
        GateRefused: the generation changed meanwhile.
    """
    if generation.is_live:
        return Promotion(generation, generation, changed=False)
    with runtime.database.transaction() as connection:
        previous = generations.promote(connection, generation, who=who, reason=reason, replacing=replacing)
        live = generations.by_id(connection, generation.id)
    _announce(runtime, live.collection)
    return Promotion(live, previous, changed=True)


def _announce(runtime: Runtime, collection: str) -> None:
    """Let readers outside PostgreSQL see what went live; where that fails or is never reached, the next sync does it.

    Raises:
        RagAssetsError: it failed.
    """
    with runtime.database.transaction() as connection:
        known = generations.all_generations(connection, collection)
    try:
        mirroring.announce(runtime, collection, known)
    except RagAssetsError as error:
        live = next(generation.name for generation in known if generation.is_live)
        raise RagAssetsError(
            f"{live} is live, but: {error} The next sync, or `rag-assets reconcile`, tries again."
        ) from error


def ready(runtime: Runtime, generation: Generation) -> None:
    """Note that a generation was judged and passed; promoting it is the next step."""
    with runtime.database.transaction() as connection:
        generations.set_state(connection, generation.id, "ready")


def refuse(runtime: Runtime, generation: Generation, reason: str) -> None:
    """Note why a generation did not go live."""
    with runtime.database.transaction() as connection:
        generations.set_state(connection, generation.id, "refused", reason)


def reinstate(runtime: Runtime, collection: str) -> Generation | None:
    """Let a rebuild that was rolled back be built on and judged again, for a person asked for it; returns it.

    None: there is none beside a live index of the same key. What changed meanwhile is a sync's work.
    """
    with runtime.database.transaction() as connection:
        live = generations.live(connection, collection)
        for generation in generations.all_generations(connection, collection) if live else ():
            if live and generation.state == "withdrawn" and generation.key == live.key == runtime.key(collection):
                generations.reinstate(connection, generation.id)
                return generations.by_id(connection, generation.id)
    return None


def rollback(runtime: Runtime, collection: str, *, who: str) -> Promotion:
    """Make the generation that was live before the present one live again.

    Raises:
        GateRefused: no earlier generation is retained.
        RagAssetsError: nothing is live.
    """
    with runtime.database.transaction() as connection:
        live = generations.live(connection, collection)
        if live is None:
            raise RagAssetsError(f"Collection {collection!r} has no live index to roll back from.")
        row = connection.execute(
            "SELECT from_generation FROM promotion p JOIN generation g ON g.id = p.from_generation"
            " WHERE p.collection = %s AND p.to_generation = %s AND g.state = 'retired' ORDER BY p.id DESC LIMIT 1",
            (collection, live.id),
        ).fetchone()
        if row is None:
            raise GateRefused(
                f"{live.name} has no retained predecessor to roll back to. `rag-assets status` lists generations."
            )
        target = generations.by_id(connection, row[0])
        generations.promote(connection, target, who=who, reason=f"rollback from {live.name}")
        failpoint("rollback.flipped")
        # Of one key there is one unfinished generation: what was to replace the one that goes is of no use now.
        for other in generations.all_generations(connection, collection):
            if other.key == live.key and other.state in ("building", "ready", "refused"):
                runtime.store_of(other).drop(connection, other)
        generations.withdraw(connection, live.id, f"rolled back by {who}; `rag-assets promote` makes it live again")
        done = Promotion(generations.by_id(connection, target.id), live, changed=True)
    _announce(runtime, collection)
    return done


def drop_superfluous(runtime: Runtime, collection: str) -> list[Generation]:
    """Drop retired generations beyond the number kept for rollback."""
    with runtime.database.transaction() as connection:
        superfluous = generations.superfluous(connection, collection, runtime.settings.sync.keep_retired)
    return drop(runtime, superfluous)


def drop(runtime: Runtime, unwanted: Sequence[Generation]) -> list[Generation]:
    """Drop generations with their reports; one that went live meanwhile, or changed its state, stays."""
    dropped = []
    for generation in unwanted:
        with runtime.database.transaction() as connection:
            connection.execute("SELECT 1 FROM collection WHERE name = %s FOR UPDATE", (generation.collection,))
            current = generations.by_id_or_none(connection, generation.id)
            if current is None or current.state != generation.state:
                continue
            runtime.store_of(generation).drop(connection, generation)
            failpoint("generation.dropped")
        dropped.append(generation)
        # Reports quote documents; none may outlive what `forget` can still find.
        reports = runtime.settings.home / "reports" / generation.collection
        for folder in reports.glob(f"{generation.sequence:04d}-*"):
            shutil.rmtree(folder, ignore_errors=True)
    for collection in {generation.collection for generation in dropped}:
        mirroring.sweep(runtime, collection, dropped)
    return dropped
