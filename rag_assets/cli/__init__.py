"""The ``rag-assets`` command. Heavy parts are imported inside commands, so that ``--help`` is quick."""

from rag_assets.cli import documents, golden, operations, questions, tuning
from rag_assets.cli.main import main

__all__ = ["documents", "golden", "main", "operations", "questions", "tuning"]
