"""Whether a file would be indexed with the documents, which a question file never may."""

import os
from pathlib import Path

from rag_assets.documents.listing import is_inside
from rag_assets.documents.names import (
    SUPPORTED,
    display_uri,
    is_excluded,
    is_ignored_file,
    is_ignored_folder,
    suffix_of,
)
from rag_assets.settings.model import CollectionSettings


def indexed_as(collection: CollectionSettings, path: Path) -> str | None:
    """The uri under which a sync takes this file (be it there or not) for a document; None: it does not."""
    if not isinstance(collection.source, Path):
        return None
    root, target = os.path.realpath(os.fsencode(collection.source)), os.path.realpath(os.fsencode(path))
    if target == root or not is_inside(root, target):
        return None
    relative = os.path.relpath(target, root)
    *folders, name = relative.split(b"/")
    uri = display_uri(relative)
    ignored = is_ignored_file(name) or any(is_ignored_folder(folder) for folder in folders)
    return None if ignored or is_excluded(uri, collection.exclude) or suffix_of(name) not in SUPPORTED else uri
