"""The ``rag-assets`` command. Heavy parts are imported inside commands, so that ``--help`` is quick."""

from rag_assets.cli import bench, capacity, documents, golden, impact, operations, questions, tuning, up
from rag_assets.cli.main import main

__all__ = ["bench", "capacity", "documents", "golden", "impact", "main", "operations", "questions", "tuning", "up"]
