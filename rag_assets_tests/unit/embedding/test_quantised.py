"""Token vectors in 4 bits a number: how near they stay, and that any shape comes back."""

import struct
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_assets.embedding.quantised import mean_best, pack

Vectors = npt.NDArray[np.float32]


def unpack(data: Sequence[bytes], dimension: int) -> tuple[Vectors, list[int]]:
    """The inverse, number by number as the format is described: (all tokens below one another, the tokens of each text)."""
    width = (dimension + 1) // 2 + 2
    tokens, counts = [], []
    for part in data:
        counts.append(len(part) // width)
        for start in range(0, len(part), width):
            (scale,) = struct.unpack("<e", part[start + width - 2 : start + width])
            halves = [half for byte in part[start : start + width - 2] for half in (byte & 15, byte >> 4)]
            tokens.append([(half - 8) * scale for half in halves[:dimension]])
    return np.asarray(tokens, dtype=np.float32).reshape(-1, dimension), counts


@settings(deadline=None, max_examples=50)
@given(shapes=st.lists(st.integers(0, 9), max_size=5), dimension=st.integers(1, 33), seed=st.integers(0, 99))
def test_every_number_comes_back_within_half_a_step_of_its_token(shapes: list[int], dimension: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    texts = [rng.standard_normal((tokens, dimension)).astype(np.float32) for tokens in shapes]
    found, counts = unpack([pack(text) for text in texts], dimension)
    assert counts == shapes
    assert found.shape == (sum(shapes), dimension)
    if len(found):
        whole = np.concatenate(texts)
        step = np.abs(whole).max(axis=1, keepdims=True) / 7
        assert np.all(np.abs(found - whole) <= step * 0.51)


@settings(deadline=None, max_examples=50)
@given(
    shapes=st.lists(st.integers(1, 9), min_size=1, max_size=5), dimension=st.integers(1, 33), seed=st.integers(0, 99)
)
def test_the_best_products_are_those_with_the_unpacked_vectors(shapes: list[int], dimension: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    asked = rng.standard_normal((3, dimension)).astype(np.float32)
    data = [pack(rng.standard_normal((tokens, dimension)).astype(np.float32)) for tokens in shapes]
    expected = [float((asked @ unpack([part], dimension)[0].T).max(axis=1).mean()) for part in data]
    np.testing.assert_allclose(mean_best(asked, data), expected, rtol=1e-3, atol=1e-4)


def test_a_token_of_384_numbers_takes_194_bytes_and_keeps_its_direction() -> None:
    vectors = np.random.default_rng(0).standard_normal((50, 384)).astype(np.float32)
    data = pack(vectors)
    assert len(data) == 50 * 194
    found, _ = unpack([data], 384)
    cosines = (found * vectors).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(vectors, axis=1)
    assert cosines.min() > 0.98


def test_a_vector_of_zeros_stays_one() -> None:
    assert not unpack([pack(np.zeros((1, 4), np.float32))], 4)[0].any()
