"""Fixtures of the driver."""

from rag_assets_tests.driving import index, open_index, parsers

__all__ = ["index", "open_index", "parsers"]
