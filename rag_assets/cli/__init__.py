"""The ``rag-assets`` command. A command is imported when it is asked for, and heavy parts inside it, so that it is quick."""

from rag_assets.cli.main import main

__all__ = ["main"]
