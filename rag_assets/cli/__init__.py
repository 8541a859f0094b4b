"""The ``rag-assets`` command. Heavy parts are imported inside commands, so that ``--help`` is quick."""

from rag_assets.cli import documents, impact, operations, questions, tuning
from rag_assets.cli.main import main

__all__ = ["documents", "impact", "main", "operations", "questions", "tuning"]
