"""How much memory PostgreSQL should have to build an HNSW graph of pgvector in."""

_LEAST, _MOST = 64, 4096
"""MB. Parallel workers share it, so that it is taken from /dev/shm, which containers have little of; and a machine has no more to spare."""


def build_megabytes(rows: int, dimension: int, m: int) -> int:
    """MB (2^20 bytes) in which the graph fits while it is built: what does not fit is built many times as slowly.

    A row takes its halfvec, 2 bytes a number; its neighbours, 2 m on the ground level and m on each of 1 / ln m further ones on average,
    of 16 bytes each; and some 250 bytes of its own (pgvector 0.8, src/hnsw.h, with what its allocator rounds up; found by lowering the
    memory until pgvector says that the graph no longer fits).
    """
    bytes_a_row = 2 * dimension + 16 * (2 * m + m) + 250
    return min(_MOST, max(_LEAST, -(-rows * bytes_a_row // 2**20)))
