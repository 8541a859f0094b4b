from rag_assets.stores.graph_memory import build_megabytes


def test_it_grows_with_rows_dimension_and_neighbours_within_bounds() -> None:
    usual = build_megabytes(200_000, 384, 16)
    assert 300 <= usual <= 400
    assert build_megabytes(400_000, 384, 16) in (2 * usual, 2 * usual - 1)
    assert build_megabytes(200_000, 1024, 16) > usual
    assert build_megabytes(200_000, 384, 32) > usual
    assert build_megabytes(10, 384, 16) == 64
    assert build_megabytes(10**9, 384, 16) == 4096
