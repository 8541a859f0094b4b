"""Token vectors in few bytes: 4 bits a number, and a scale for each token.

Per token, of dimension d: ⌈d / 2⌉ bytes with two numbers each, −7 … 7 stored as 1 … 15 (low half first), then the scale as a
little-endian float16. 194 bytes for a token of 384 numbers instead of 1,536.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
_STEPS = 7
_ZERO = 8
_SCALE_BYTES = 2


def pack(vectors: Vectors) -> bytes:
    """Vectors of shape (tokens, dimension), quantised."""
    scales = np.maximum(np.abs(vectors).max(axis=1, initial=0.0) / _STEPS, np.finfo(np.float16).tiny).astype("<f2")
    steps = np.clip(np.rint(vectors / scales[:, None].astype(np.float32)), -_STEPS, _STEPS)
    halves = (steps + _ZERO).astype(np.uint8)
    if halves.shape[1] % 2:
        halves = np.pad(halves, ((0, 0), (0, 1)), constant_values=_ZERO)
    packed = halves[:, ::2] | (halves[:, 1::2] << 4)
    return np.hstack([packed, scales[:, None].view(np.uint8).reshape(-1, _SCALE_BYTES)]).tobytes()


def mean_best(asked: Vectors, data: Sequence[bytes]) -> list[float]:
    """For each packed text, the mean over the vectors of ``asked`` of the highest product with one of its vectors.

    As the products with the unpacked vectors would give, without making those: the two numbers of a byte are multiplied apart,
    and the scale comes last.
    """
    dimension = asked.shape[1]
    width = (dimension + 1) // 2 + _SCALE_BYTES
    rows = np.frombuffer(b"".join(data), dtype=np.uint8).reshape(-1, width)
    if dimension % 2:
        asked = np.pad(asked, ((0, 0), (0, 1)))
    numbers = rows[:, :-_SCALE_BYTES]
    products = asked[:, ::2] @ (numbers & 15).astype(np.float32).T
    products += asked[:, 1::2] @ (numbers >> 4).astype(np.float32).T
    products -= _ZERO * asked.sum(axis=1, keepdims=True)
    products *= np.ascontiguousarray(rows[:, -_SCALE_BYTES:]).view("<f2").astype(np.float32)[:, 0]
    ends = np.cumsum([len(part) // width for part in data]).tolist()
    starts = [0, *ends[:-1]]
    return [float(products[:, a:b].max(axis=1).mean()) if a < b else -1.0 for a, b in zip(starts, ends, strict=True)]
