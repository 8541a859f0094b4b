"""The files of a golden set: the questions, and beside them the drafts that wait for a person."""

from pathlib import Path

from rag_assets.errors import ConfigurationError
from rag_assets.settings import Settings


def question_file(settings: Settings, collection: str, named: Path | None) -> Path:
    """The question file a command means: the one it names, else the collection's.

    Raises:
        ConfigurationError: there is neither.
    """
    file = named or settings.collection(collection).questions
    if file is None:
        raise ConfigurationError(
            f"Collection {collection!r} has no golden questions. Pass --questions FILE, or set "
            f"collections.{collection}.questions in rag_assets.toml."
        )
    return file
