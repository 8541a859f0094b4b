"""Sources of documents: a folder, an object store, a list of pages, a repository. Code above knows only the protocol."""

from pathlib import Path
from urllib.parse import urlsplit

from rag_assets.documents.sources.folder import FolderSource
from rag_assets.documents.sources.protocol import DocumentSource, SourceUnavailable
from rag_assets.documents.sources.spool import Spooled
from rag_assets.settings import CollectionSettings, SourcesSettings
from rag_assets.settings.source_urls import OBJECT_STORES

__all__ = ["DocumentSource", "FolderSource", "SourceUnavailable", "open_source"]


def open_source(collection: CollectionSettings, settings: SourcesSettings, cache: Path) -> DocumentSource:
    """The source of a collection; asks nobody yet.

    Args:
        collection: whose.
        settings: how sources are reached.
        cache: folder for copies of repositories.

    Raises:
        ConfigurationError: the optional package for such a source is missing; names the extra.
    """
    source = collection.source
    if isinstance(source, Path):
        return FolderSource(source)
    # What they need is imported by the collections that have one.
    if isinstance(source, tuple):
        from rag_assets.documents.sources.pages import PagesSource

        return Spooled(PagesSource(source, settings))
    if urlsplit(source).scheme in OBJECT_STORES:
        from rag_assets.documents.sources.objects import ObjectSource, build_store

        return Spooled(
            ObjectSource(source, build_store(source, collection.options, settings), settings.timeout_seconds)
        )
    from rag_assets.documents.sources.git import GitSource

    return GitSource(source, settings, cache)
