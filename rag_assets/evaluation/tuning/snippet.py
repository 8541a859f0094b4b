"""Recommended settings as they would stand in the settings file."""

import json

from rag_assets.evaluation.tuning.results import Variant
from rag_assets.settings import RetrievalSettings, Settings


def toml_snippet(settings: Settings, collection: str, present: Variant, recommended: Variant, top_k: int | None) -> str:
    """The sections to put in the place of those in ``rag_assets.toml``; empty if nothing changes.

    With one collection it is ``[retrieval]`` of all. With several it is the collection's own, which replaces the common one
    as a whole, so that it holds everything that is not the default.
    """
    parts = []
    if recommended.retrieval != present.retrieval:
        own = settings.collections.get(collection)
        shared = len(settings.collections) <= 1 and (own is None or own.retrieval is None)
        # `diversity` is no part of what is tuned: it stays as it is set.
        wanted = recommended.retrieval.model_copy(
            update={"diversity": settings.retrieval_of(collection).diversity}
        ).model_dump()
        default = RetrievalSettings().model_dump()
        before = present.retrieval.model_dump()
        lines = [
            f"{name} = {_value(value)}"
            for name, value in wanted.items()
            if value != default[name] or (name != "diversity" and value != before[name])
        ]
        parts.append("\n".join(["[retrieval]" if shared else f"[collections.{collection}.retrieval]", *lines]))
    if recommended.ef_search != present.ef_search:
        parts.append(f"[index]\nef_search = {recommended.ef_search}")
    if top_k is not None and top_k != settings.answers.top_k:
        parts.append(f"[answers]\ntop_k = {top_k}")
    return "\n\n".join(parts) + "\n" if parts else ""


def _value(value: object) -> str:
    """A scalar as TOML writes it, which is as JSON does."""
    return json.dumps(value, ensure_ascii=False)
