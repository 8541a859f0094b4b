"""Where a collection's golden questions and its drafts are."""

from pathlib import Path

from rag_assets.errors import ConfigurationError
from rag_assets.evaluation.golden.place import indexed_as
from rag_assets.settings import Settings

DRAFTS = "questions.draft.jsonl"


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


def drafts_file(settings: Settings, collection: str, named: Path | None, questions: Path | None) -> Path:
    """The file drafts go to: the one named, else ``questions.draft.jsonl`` beside the question file, else here.

    Raises:
        ConfigurationError: it would be indexed with the documents.
    """
    file = named or (questions.parent if questions else Path.cwd()) / DRAFTS
    uri = indexed_as(settings.collection(collection), file)
    if uri is not None:
        raise ConfigurationError(
            f"Drafts in {file} would be indexed as the document {uri!r}, and found by every search. "
            "Name a file outside the source with --out FILE."
        )
    return file
