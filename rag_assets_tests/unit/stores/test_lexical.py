"""Lexical search on a real server, against bm25s and against an index made from scratch."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import bm25s
import numpy as np
import psycopg
import pytest
import Stemmer
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg import sql

from rag_assets.database.generations import Generation
from rag_assets.database.pool import Database
from rag_assets.errors import RagAssetsError
from rag_assets.retrieval.filters import parse_filters
from rag_assets.settings import LexicalSettings
from rag_assets.stores import lexical, lexical_codec, lexical_compaction, lexical_segments
from rag_assets_tests.unit.stores import lexical_rows as rows

SAMPLE = Path(__file__).parents[3] / "evals" / "sample"


@pytest.fixture
def generation(database: Database) -> Generation:
    return rows.begin(database)


def reference(texts: dict[str, str], question: str, *, k1: float = 1.5, b: float = 0.75) -> dict[str, float]:
    """Id -> score of every text that has a word of the question: bm25s with its own tokenizer, in English."""
    stemmer = Stemmer.Stemmer("english")
    words = bm25s.tokenize(list(texts.values()), stopwords="en", stemmer=stemmer, show_progress=False, return_ids=False)
    (asked,) = bm25s.tokenize([question], stopwords="en", stemmer=stemmer, show_progress=False, return_ids=False)
    known = {word for row in words for word in row}
    asked = [word for word in asked if word in known]
    if not asked:
        return {}
    made = bm25s.BM25(method="lucene", k1=k1, b=b)
    made.index(words, show_progress=False)
    scores = made.get_scores(asked)
    return {rows.id_of(name): float(score) for name, score in zip(texts, scores, strict=True) if score > 0}


def assert_equal(found: Sequence[lexical.Match], expected: dict[str, float], k: int = 10) -> None:
    """The same scores in the same order; where scores are equal, the smaller id first."""
    best = sorted(expected.items(), key=lambda item: (-item[1], item[0]))
    assert [match.score for match in found] == pytest.approx([score for _, score in best[:k]], abs=1e-4)
    assert [match.score for match in found] == sorted((match.score for match in found), reverse=True)
    for match in found:
        assert match.score == pytest.approx(expected[match.chunk_id], abs=1e-4)
    for one, next_ in pairwise(found):
        assert one.score > next_.score or one.chunk_id < next_.chunk_id


def sample_texts() -> dict[str, str]:
    """Paragraphs of the sample corpus' English Markdown files."""
    paths = [path for path in sorted(SAMPLE.rglob("*.md")) if path.parent.name not in ("de", "es")]
    texts = {path.name: path.read_text(encoding="utf-8") for path in paths}
    assert len(texts) >= 10
    return {f"{name} {number}": part for name, text in texts.items() for number, part in enumerate(text.split("\n\n"))}


def zipf(count: int, seed: int = 0) -> dict[str, str]:
    """Texts of words whose frequencies follow Zipf's law."""
    random = np.random.default_rng(seed)
    words = [f"w{chr(97 + n % 26)}{n}" for n in range(3000)]
    return {
        f"t{number}": " ".join(words[w % 3000] for w in random.zipf(1.3, size=int(random.integers(1, 80))))
        for number in range(count)
    }


def test_the_sample_corpus_ranks_as_in_bm25s(database: Database, generation: Generation) -> None:
    texts = sample_texts()
    rows.put(database, generation, texts)
    for question in [
        *list(texts.values())[:: len(texts) // 40],
        "What are the symptoms of asthma?",
        "treatment treatment",
    ]:
        asked = question[:300]
        assert_equal(rows.ask(database, generation, asked, 20), reference(texts, asked), 20)
    assert rows.faults(database, generation) == 0


@pytest.mark.parametrize(("k1", "b"), [(1.5, 0.75), (0.9, 0.4), (2.0, 1.0), (1.2, 0.0)])
def test_k1_and_b_are_chosen_per_query(database: Database, generation: Generation, k1: float, b: float) -> None:
    texts = zipf(300)
    rows.put(database, generation, texts)
    question = "wa0 wb1 wc2 wh59 wn117"
    found = rows.ask(database, generation, question, settings=LexicalSettings(k1=k1, b=b))
    assert_equal(found, reference(texts, question, k1=k1, b=b))


def test_a_term_that_is_hundreds_of_times_in_a_row_counts_as_often(database: Database, generation: Generation) -> None:
    texts = {"many": "deep " * 700 + "end", "some": "deep " * 200, "one": "deep end"}
    rows.put(database, generation, texts)
    assert_equal(rows.ask(database, generation, "deep end"), reference(texts, "deep end"))
    assert rows.faults(database, generation) == 0


def test_nothing_is_found_for_words_nobody_wrote(database: Database, generation: Generation) -> None:
    assert rows.ask(database, generation, "anything") == []
    rows.put(database, generation, {"a": "one thing", "empty": "", "digits": "2024 7"})
    assert rows.ask(database, generation, "zebra") == []
    assert rows.ask(database, generation, "the") == []
    assert [m.chunk_id for m in rows.ask(database, generation, "2024")] == [rows.id_of("digits")]


NAMES = st.integers(0, 11).map("n{}".format)
WORDS = ["red", "green", "blue", "reds", "the", "violet", "猫が好き", "дома"]
TEXTS = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.dictionaries(NAMES, TEXTS, min_size=1, max_size=4)),
        st.tuples(st.just("remove"), st.lists(NAMES, min_size=1, max_size=4, unique=True)),
        st.tuples(st.just("undone"), st.dictionaries(NAMES, TEXTS, min_size=1, max_size=2)),
        st.tuples(
            st.sampled_from(["compact", "optimise", "rebuild", "forget"]), st.lists(NAMES, max_size=2, unique=True)
        ),
    ),
    max_size=25,
)


@settings(
    max_examples=20,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=STEPS)
def test_after_any_history_it_is_what_it_would_be_made_from_scratch(
    database: Database, generation: Generation, steps: list[tuple[str, dict[str, str] | list[str]]]
) -> None:
    kept: dict[str, str] = {}
    with database.transaction() as connection:
        connection.execute("DELETE FROM index_entry")
        lexical.rebuild(connection, generation)
    for kind, what in steps:
        with database.transaction() as connection:
            if isinstance(what, dict):
                with connection.transaction(force_rollback=kind == "undone"):
                    old = rows.delete(connection, generation, [name for name in what if name in kept])
                    lexical.apply(connection, generation, rows.insert(connection, generation, what), old)
                kept |= what if kind == "put" else {}
            elif kind in ("remove", "forget"):
                ids = rows.delete(connection, generation, what)
                if kind == "forget":
                    lexical.forget(connection, generation, ids)
                else:
                    lexical.apply(connection, generation, [], ids)
                kept = {name: text for name, text in kept.items() if name not in what}
            else:
                getattr(lexical, kind)(connection, generation)
        assert rows.faults(database, generation) == 0
    questions = ("red", "green blue the", "猫 好き violet", "дом reds reds")
    found = [rows.ask(database, generation, question, 20) for question in questions]
    with database.transaction() as connection:
        lexical.rebuild(connection, generation)
    assert found == [rows.ask(database, generation, question, 20) for question in questions]
    if all(text.isascii() for text in kept.values()):
        assert_equal(rows.ask(database, generation, "red violet blue", 20), reference(kept, "red violet blue"), 20)


def test_a_write_that_is_rolled_back_leaves_nothing(database: Database, generation: Generation) -> None:
    rows.put(database, generation, {"a": "red fish", "b": "blue fish"})
    before = rows.segments(database, generation), rows.vocabulary(database, generation)

    def broken() -> None:
        with database.transaction() as connection:
            ids = rows.insert(connection, generation, {"c": "green fish"})
            lexical.apply(connection, generation, ids, rows.delete(connection, generation, ["a"]))
            raise psycopg.errors.DataException("the shard's stage fails after it")

    with pytest.raises(psycopg.errors.DataException):
        broken()
    assert (rows.segments(database, generation), rows.vocabulary(database, generation)) == before
    assert rows.faults(database, generation) == 0
    assert [m.chunk_id for m in rows.ask(database, generation, "red")] == [rows.id_of("a")]


def test_writers_of_two_shards_do_not_wait_for_each_other(database: Database, generation: Generation) -> None:
    texts = {f"a{n}": f"fish number a{n}" for n in range(5)} | {f"b{n}": f"fish number b{n}" for n in range(5)}
    rows.put(database, generation, {"a0": texts["a0"], "b0": texts["b0"]})
    first_wrote, second_done = threading.Event(), threading.Event()

    def first() -> None:
        with database.transaction() as connection:
            old = rows.delete(connection, generation, ["a0"])
            new = rows.insert(connection, generation, {n: t for n, t in texts.items() if n[0] == "a"})
            lexical.apply(connection, generation, new, old)
            first_wrote.set()
            assert second_done.wait(30)

    thread = threading.Thread(target=first)
    thread.start()
    assert first_wrote.wait(30)
    with database.transaction() as connection:
        connection.execute("SET LOCAL lock_timeout = '10s'")
        old = rows.delete(connection, generation, ["b0"])
        new = rows.insert(connection, generation, {n: t for n, t in texts.items() if n[0] == "b"})
        lexical.apply(connection, generation, new, old)
    mine = rows.ask(database, generation, "fish", 20)
    assert {m.chunk_id for m in mine} == {rows.id_of(n) for n in texts if n[0] == "b"} | {rows.id_of("a0")}
    second_done.set()
    thread.join()
    assert rows.faults(database, generation) == 0
    assert_equal(rows.ask(database, generation, "fish a3", 20), reference(texts, "fish a3"), 20)


def test_a_segment_is_not_merged_while_somebody_deletes_from_it(database: Database, generation: Generation) -> None:
    rows.put(database, generation, {"a": "red fish", "b": "blue fish"})
    with database.transaction() as writer:
        lexical.apply(writer, generation, [], rows.delete(writer, generation, ["a"]))
        with database.transaction() as other:
            lexical.optimise(other, generation)
    assert rows.faults(database, generation) == 0
    assert [m.chunk_id for m in rows.ask(database, generation, "fish")] == [rows.id_of("b")]


def test_many_small_writes_leave_few_segments(database: Database, generation: Generation) -> None:
    texts = zipf(150)
    for name, text in texts.items():
        rows.put(database, generation, {name: text})
    assert len(rows.segments(database, generation)) < 3 * lexical_compaction.TIER
    question = "wa0 wb1 wc2"
    assert_equal(rows.ask(database, generation, question), reference(texts, question))
    with database.transaction() as connection:
        lexical.optimise(connection, generation)
    assert len(rows.segments(database, generation)) == 1
    assert_equal(rows.ask(database, generation, question), reference(texts, question))
    assert rows.faults(database, generation) == 0


def test_a_segment_that_is_mostly_deleted_is_written_again(database: Database, generation: Generation) -> None:
    texts = zipf(100)
    rows.put(database, generation, texts)
    rows.remove(database, generation, [f"t{n}" for n in range(30)])
    assert rows.segments(database, generation)[-1][1] == 70
    left = {name: text for name, text in texts.items() if int(name[1:]) >= 30}
    assert_equal(rows.ask(database, generation, "wa0 wd3"), reference(left, "wa0 wd3"))


def test_many_rows_become_several_segments(
    database: Database, generation: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lexical_segments, "BATCH", 40)
    texts = zipf(100)
    rows.put(database, generation, texts)
    assert [size for _, size in rows.segments(database, generation)] == [40, 40, 20]
    assert_equal(rows.ask(database, generation, "wa0 wd3"), reference(texts, "wa0 wd3"))


@pytest.mark.parametrize("portion", [1, 300])
def test_posting_lists_are_merged_and_checked_a_portion_at_a_time(
    database: Database, generation: Generation, monkeypatch: pytest.MonkeyPatch, portion: int
) -> None:
    monkeypatch.setattr(lexical_codec, "PORTION_BYTES", portion)
    texts = {f"{number} {name}": text for number in range(3) for name, text in zipf(40, seed=number).items()}
    for number in range(3):
        rows.put(database, generation, {name: text for name, text in texts.items() if name[0] == str(number)})
    rows.remove(database, generation, [name for name in texts if name.endswith("7")])
    with database.transaction() as connection:
        lexical.optimise(connection, generation)
    assert len(rows.segments(database, generation)) == 1
    left = {name: text for name, text in texts.items() if not name.endswith("7")}
    assert_equal(rows.ask(database, generation, "wa0 wd3"), reference(left, "wa0 wd3"))
    assert rows.faults(database, generation) == 0
    with database.transaction() as connection:
        connection.execute(sql.SQL("DELETE FROM {} WHERE term = 'wa0'").format(lexical_segments.table(generation)))
    assert rows.faults(database, generation) == sum("wa0" in text.split() for text in left.values())


def test_no_word_of_a_forgotten_row_is_left_nor_of_one_deleted_before(
    database: Database, generation: Generation
) -> None:
    rows.put(database, generation, {f"n{n}": f"common word{n}" for n in range(20)})
    rows.put(database, generation, {"s": "secret common"})
    rows.remove(database, generation, ["n3"])
    assert {"secret", "word3"} <= rows.vocabulary(database, generation)
    with database.transaction() as connection:
        lexical.forget(connection, generation, rows.delete(connection, generation, ["s"]))
    assert not {"secret", "word3"} & rows.vocabulary(database, generation)
    assert rows.faults(database, generation) == 0
    assert len(rows.ask(database, generation, "common", 50)) == 19


def test_a_reader_keeps_its_snapshot_while_segments_are_merged(database: Database, generation: Generation) -> None:
    rows.put(database, generation, {"a": "red fish"})
    rows.put(database, generation, {"b": "blue fish"})
    with database.transaction(snapshot=True) as reader:
        before = lexical.search(reader, generation, "fish", 10).matches
        with database.transaction() as connection:
            lexical.apply(connection, generation, [], rows.delete(connection, generation, ["a"]))
        with database.transaction() as connection:
            lexical.optimise(connection, replace(generation, state="live"))
        assert [m.chunk_id for m in rows.ask(database, generation, "fish")] == [rows.id_of("b")]
        assert lexical.search(reader, generation, "fish", 10).matches == before
    assert len(before) == 2


def test_merging_what_nobody_queries_yet_leaves_no_empty_pages(database: Database, generation: Generation) -> None:
    for number in range(5):
        rows.put(database, generation, {f"{name} {number}": text for name, text in zipf(60, seed=number).items()})
    with database.transaction() as connection:
        lexical.optimise(connection, generation)
        size: Any = connection.execute(
            "SELECT pg_relation_size(%s)", (f"rag.lexical_posting_g{generation.id}",)
        ).fetchone()
        connection.execute(f"CREATE TABLE again AS SELECT * FROM lexical_posting_g{generation.id}")  # type: ignore[arg-type]
        fresh: Any = connection.execute("SELECT pg_relation_size('again')").fetchone()
    assert size[0] <= 1.1 * fresh[0] + 8192
    assert rows.faults(database, generation) == 0
    rows.put(database, generation, {"more": "word"})
    assert len(rows.ask(database, generation, "word")) == 1


@pytest.mark.parametrize("share", [2, 50, 2000])
def test_a_filter_finds_the_best_of_those_that_pass(database: Database, generation: Generation, share: int) -> None:
    """The rare ones score lowest of all: they are behind everything that is looked at first."""
    common = {f"c{n}": "fish fish fish" for n in range(2000 - 2000 // share)}
    rare = {f"r{n}": "fish and " + "other " * (n + 3) for n in range(2000 // share)}
    rows.put(database, generation, common, type="common")
    rows.put(database, generation, rare, type=["rare", "odd"])
    everything = reference(common | rare, "fish")
    expected = {rows.id_of(name): everything[rows.id_of(name)] for name in rare}
    assert_equal(rows.ask(database, generation, "fish", 10, filters=parse_filters(["type=rare"])), expected)
    assert rows.ask(database, generation, "fish", 10, filters=parse_filters(["type=none"])) == []


DAMAGE = {
    "a lost posting list": "DELETE FROM {postings} WHERE term = 'red'",
    "a forged one": "UPDATE {postings} SET term = 'rad' WHERE term = 'red'",
    "a copied one": "INSERT INTO {postings} SELECT segment, 'more', postings FROM {postings} WHERE term = 'red'",
    "one of no segment": "INSERT INTO {postings} VALUES (0, 'more', '\\x000000')",
    "a lost segment": "DELETE FROM lexical_segment WHERE id = (SELECT max(id) FROM lexical_segment)",
    "a forged length": "UPDATE lexical_segment SET lengths = '\\x09000000'::bytea || substr(lengths, 5)",
    "another language": "UPDATE lexical_segment SET languages = '\\x05'::bytea || substr(languages, 2)",
    "another analyzer": "UPDATE lexical_segment SET analyzer = 'older'",
    "a deleted row that is there": "DELETE FROM index_entry WHERE chunk_id = (SELECT min(chunk_id) FROM index_entry)",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found_and_made_good(database: Database, generation: Generation, damage: str) -> None:
    rows.put(database, generation, {"a": "red fish", "b": "blue fish"})
    rows.put(database, generation, {"c": "green fish"})
    assert rows.faults(database, generation) == 0
    with database.transaction() as connection:
        connection.execute(DAMAGE[damage].format(postings=f"lexical_posting_g{generation.id}"))  # type: ignore[arg-type]
    assert rows.faults(database, generation) > 0
    with database.transaction() as connection:
        lexical.rebuild(connection, generation)
    assert rows.faults(database, generation) == 0


def test_the_next_write_makes_the_index_of_another_analyzer_again(database: Database, generation: Generation) -> None:
    rows.put(database, generation, {"a": "red fish"})
    with database.transaction() as connection:
        connection.execute("UPDATE lexical_segment SET analyzer = 'older'")
    rows.put(database, generation, {"b": "blue fish"})
    assert rows.faults(database, generation) == 0
    assert len(rows.ask(database, generation, "fish")) == 2


def test_a_generation_of_an_earlier_release_says_what_to_do(database: Database) -> None:
    older = replace(rows.begin(database), config={})
    with pytest.raises(RagAssetsError, match="rag-assets sync"):
        rows.ask(database, older, "fish")
    with database.transaction() as connection:
        lexical.apply(connection, older, rows.insert(connection, older, {"a": "fish"}), [])
    assert rows.segments(database, older) == []
    assert rows.faults(database, older) == 0


def test_a_dropped_generation_leaves_nothing_and_no_other_is_touched(
    database: Database, generation: Generation
) -> None:
    other = rows.begin(database, stop_words=False)
    for one in (generation, other):
        rows.put(database, one, {"a": "the fish"})
    with database.transaction() as connection:
        lexical.drop(connection, generation)
        row = connection.execute("SELECT to_regclass(%s)", (f"rag.lexical_posting_g{generation.id}",)).fetchone()
    assert row == (None,)
    assert rows.segments(database, generation) == []
    assert len(rows.ask(database, other, "the")) == 1
