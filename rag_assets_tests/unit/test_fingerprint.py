"""Identity and versions: equal things get equal hashes, different things different ones, today and after an upgrade."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.fingerprint import (
    bucket_of,
    chunk_id,
    document_id,
    fingerprint,
    hash_bytes,
    hash_parts,
    shard_of,
    text_hash,
)

parts = st.lists(st.text(max_size=4), max_size=4)


@given(parts, parts)
def test_different_sequences_of_parts_have_different_hashes(first: list[str], second: list[str]) -> None:
    assert (hash_parts(first) == hash_parts(second)) == (first == second)


@given(st.dictionaries(st.text(), st.integers()))
def test_the_order_of_keys_does_not_matter_to_a_fingerprint(value: dict[str, int]) -> None:
    keys = list(value)
    random.Random(1).shuffle(keys)
    assert fingerprint({key: value[key] for key in keys}) == fingerprint(value)


def test_a_fingerprint_tells_types_and_values_apart() -> None:
    values = [1, "1", 1.5, True, None, [1], {"a": 1}, {"a": "1"}, {"b": 1}, []]
    assert len({fingerprint(value) for value in values}) == len(values)


def test_digests_are_32_hex_digits_of_blake2b() -> None:
    assert hash_bytes(b"") == "cae66941d9efbd404e4d88758ea67670"
    assert len(hash_bytes(b"x" * 1000)) == 32


def test_identities_are_the_ones_stored_indexes_already_have() -> None:
    # Literal values: a change here orphans every row of every existing index.
    document = document_id("handbook", b"hr/leave.md")
    assert document == "6059cd6cd36af3ea2e1bf3e2d7cc60bb"
    assert text_hash("Ä") == "d56d46c1ca40bd7425ed57bf62fe74a3"
    assert chunk_id(document, text_hash("Ä"), 0) == "c9d627bd39ad088479f6bc608cbf556c"


def test_the_same_path_in_two_collections_is_two_documents() -> None:
    assert document_id("a", b"x.md") != document_id("b", b"x.md")
    assert document_id("a", b"bx.md") != document_id("ab", b"x.md")


def test_equal_texts_of_a_document_are_told_apart_by_their_ordinal() -> None:
    assert len({chunk_id("d", "t", 0), chunk_id("d", "t", 1), chunk_id("e", "t", 0), chunk_id("d", "u", 0)}) == 4


def test_a_lone_surrogate_is_refused_rather_than_hashed() -> None:
    with pytest.raises(UnicodeEncodeError):
        text_hash("\ud800")


@given(st.binary(max_size=8), st.integers(1, 64))
def test_a_shard_is_below_the_number_of_shards_and_follows_the_stored_bucket(path: bytes, shards: int) -> None:
    doc_id = document_id("c", path)
    assert 0 <= shard_of(doc_id, shards) < shards
    assert shard_of(doc_id, shards) == bucket_of(doc_id) % shards


def test_documents_spread_evenly_over_shards() -> None:
    counts = [0] * 8
    for number in range(8000):
        counts[shard_of(document_id("c", str(number).encode()), 8)] += 1
    # Mean 1000, standard deviation 30: seven of them.
    assert all(790 < count < 1210 for count in counts)
