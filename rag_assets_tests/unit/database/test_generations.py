"""Generations: exactly one is live, the flip happens once, and enough of the old ones stay for a way back."""

from dataclasses import replace
from typing import Any

import psycopg
import pytest

from rag_assets.database import generations
from rag_assets.database.generations import Generation, GenerationKey
from rag_assets.database.pool import Database
from rag_assets.errors import GateRefused, RagAssetsError


def key(name: str) -> GenerationKey:
    return GenerationKey(f"chunker-{name}", "embedder", "index")


def create(database: Database, name: str, collection: str = "c") -> Generation:
    with database.transaction() as connection:
        return generations.create(connection, collection, key(name), {"name": name}, 8)


def promote(database: Database, generation: Generation) -> Generation | None:
    with database.transaction() as connection:
        return generations.promote(connection, generation, who="test", reason="because")


def read(database: Database, generation: Generation) -> Generation:
    with database.transaction() as connection:
        return generations.by_id(connection, generation.id)


def live(database: Database, collection: str = "c") -> Generation | None:
    with database.transaction() as connection:
        return generations.live(connection, collection)


def rows(database: Database, statement: str) -> list[tuple[Any, ...]]:
    with database.transaction() as connection:
        return connection.execute(statement).fetchall()  # type: ignore[call-overload,no-any-return]


def test_a_generation_begins_as_building_and_is_named_by_collection_and_number(database: Database) -> None:
    first, second = create(database, "a"), create(database, "b")
    assert (first.name, first.state, first.config) == ("c#1", "building", {"name": "a"})
    assert second.name == "c#2"
    assert create(database, "a", collection="other").name == "other#1"
    assert live(database) is None


def test_beginning_the_same_index_twice_gives_the_same_generation(database: Database) -> None:
    assert create(database, "a").id == create(database, "a").id


def test_a_beam_is_kept_and_of_two_that_were_measured_at_once_the_wider(database: Database) -> None:
    def keep(seen: Generation, beam: int | None) -> int | None:
        with database.transaction() as connection:
            return generations.keep_beam(connection, seen, beam)

    fresh = create(database, "a")
    assert (fresh.beam, keep(fresh, 200), read(database, fresh).beam) == (None, 200, 200)
    widened = read(database, fresh)
    # Who read it before it was widened must not narrow it; who read it since may.
    assert (keep(fresh, None), keep(fresh, 100), keep(fresh, 400)) == (200, 200, 400)
    assert (keep(widened, 200), keep(read(database, fresh), None), read(database, fresh).beam) == (400, None, None)
    rows(database, "DELETE FROM generation RETURNING id")
    with pytest.raises(RagAssetsError, match="c#1 was dropped meanwhile"):
        keep(fresh, 200)


def test_promotion_flips_exactly_one_live_generation(database: Database) -> None:
    first, second = create(database, "a"), create(database, "b")
    assert promote(database, first) is None
    previous = promote(database, second)
    assert previous is not None
    assert previous.id == first.id
    now = live(database)
    assert now is not None
    assert (now.id, now.is_live, now.reason) == (second.id, True, "because")
    assert now.promoted_at is not None
    assert read(database, first).state == "retired"
    assert rows(database, "SELECT from_generation, to_generation, who FROM promotion ORDER BY id") == [
        (None, first.id, "test"),
        (first.id, second.id, "test"),
    ]


def test_promoting_the_live_one_again_changes_nothing(database: Database) -> None:
    first = create(database, "a")
    promote(database, first)
    promote(database, first)
    assert rows(database, "SELECT count(*) FROM promotion") == [(1,)]
    assert rows(database, "SELECT version FROM collection") == [(1,)]


def test_a_generation_that_was_judged_in_another_state_is_not_promoted(database: Database) -> None:
    first, second = create(database, "a"), create(database, "b")
    promote(database, first)
    with database.transaction() as connection:
        generations.set_state(connection, second.id, "refused", "it got worse")
    with pytest.raises(GateRefused, match="c#2 became refused meanwhile"):
        promote(database, second)
    assert live(database) == read(database, first)


def test_a_generation_that_another_promotion_retired_is_not_promoted(database: Database) -> None:
    first, second = create(database, "a"), create(database, "b")
    promote(database, first)
    promote(database, second)
    with pytest.raises(GateRefused, match="became retired meanwhile"):
        promote(database, first)
    now = live(database)
    assert now is not None
    assert now.id == second.id


def test_a_generation_that_is_gone_is_not_promoted(database: Database) -> None:
    first = create(database, "a")
    with pytest.raises(RagAssetsError, match="Generation 999 does not exist"):
        promote(database, replace(first, id=999))


def test_the_database_itself_refuses_a_second_live_generation(database: Database) -> None:
    first, second = create(database, "a"), create(database, "b")
    promote(database, first)
    with pytest.raises(psycopg.errors.UniqueViolation), database.transaction() as connection:
        connection.execute("UPDATE generation SET state = 'live' WHERE id = %s", (second.id,))


def test_work_goes_into_the_live_generation_that_fits_else_the_one_being_built(database: Database) -> None:
    first, second = create(database, "a"), create(database, "b")
    promote(database, first)
    with database.transaction() as connection:
        for name, expected in (("a", first), ("b", second)):
            found = generations.find(connection, "c", key(name))
            assert found is not None
            assert found.id == expected.id
        assert generations.find(connection, "c", key("z")) is None
        assert generations.find(connection, "other", key("a")) is None


def test_a_retired_generation_is_not_worked_on_and_its_index_can_be_built_again(database: Database) -> None:
    first, second = create(database, "a"), create(database, "b")
    promote(database, first)
    promote(database, second)
    with database.transaction() as connection:
        assert generations.find(connection, "c", key("a")) is None
    assert create(database, "a").name == "c#3"


def test_the_state_of_a_live_or_retired_generation_can_not_be_overwritten(database: Database) -> None:
    first, second = create(database, "a"), create(database, "b")
    promote(database, first)
    promote(database, second)
    for generation, state in ((first, "retired"), (second, "live")):
        with database.transaction() as connection:
            generations.set_state(connection, generation.id, "refused", "too late")
        assert read(database, generation).state == state


@pytest.mark.parametrize("kept", [1, 2, 5])
def test_retired_generations_beyond_those_kept_are_superfluous_oldest_first(database: Database, kept: int) -> None:
    made = [create(database, name) for name in "abcd"]
    for generation in made:
        promote(database, generation)
    building = create(database, "building")
    with database.transaction() as connection:
        dropped = {generation.id for generation in generations.superfluous(connection, "c", kept)}
    assert dropped == {generation.id for generation in made[:3][: max(0, 3 - kept)]}
    assert building.id not in dropped
