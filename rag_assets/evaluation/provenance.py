"""What an evaluation was made of: the corpus as labels see it, and the fingerprint that says when scores may differ."""

from collections.abc import Collection, Iterator, Sequence
from importlib.metadata import version
from typing import Any

from rag_assets.database.generations import Generation
from rag_assets.evaluation.golden.questions import Question, question_set_hash
from rag_assets.evaluation.impact.holdings import held_texts, is_frozen
from rag_assets.fingerprint import fingerprint
from rag_assets.indexing.hnsw_index import contents_hash
from rag_assets.runtime import Runtime
from rag_assets.settings import AnswerSettings

_LIBRARIES = (
    "rag-assets",
    "torch",
    "openvino",
    "sentence-transformers",
    "transformers",
    "unstructured",
    "pgvector",
    "litellm",
    "ragas",
)


_TEXTS = """
    SELECT s.uri, (SELECT string_agg(element ->> 1, E'\\n\\n' ORDER BY place)
                   FROM jsonb_array_elements(d.elements) WITH ORDINALITY AS e(element, place))
    FROM document d JOIN source_file s USING (doc_id)
    WHERE s.collection = %(collection)s AND (%(uris)s::text[] IS NULL OR s.uri = ANY(%(uris)s))
    ORDER BY s.uri
"""
_SECRET = ("_key", "_token", "_secret", "password", "credentials")
"""Ends of the names of what must not be hashed: another key gives the same answers."""
_ANSWERING = {"fill_context", "context_tokens", "window_tokens", "answer_tokens", "reserve_tokens"}


def corpus_texts(runtime: Runtime, collection: str, questions: Sequence[Question]) -> dict[str, str]:
    """The text of every labelled document that is in the collection, by uri."""
    return texts_of(runtime, collection, {label.document for question in questions for label in question.relevant})


def texts_of(runtime: Runtime, collection: str, uris: Collection[str]) -> dict[str, str]:
    """The text of those of these documents that are in the collection, by uri."""
    with runtime.database.transaction(snapshot=True) as connection:
        rows = connection.execute(_TEXTS, {"collection": collection, "uris": sorted(uris)}).fetchall()
    return {row[0]: row[1] or "" for row in rows}


def every_text(runtime: Runtime, collection: str) -> Iterator[tuple[str, str]]:
    """(uri, text) of every document of a collection, in the order of their uris, few in memory at a time."""
    with runtime.database.transaction(snapshot=True) as connection, connection.cursor(name="texts") as cursor:
        cursor.itersize = 200
        for uri, text in cursor.execute(_TEXTS, {"collection": collection, "uris": None}):
            yield uri, text or ""


def label_texts(runtime: Runtime, generation: Generation, questions: Sequence[Question]) -> dict[str, str]:
    """What labels are resolved against: the documents as a generation holds them, by uri.

    A generation that follows its documents is measured by the present ones, whether it has caught up or not.
    """
    if not is_frozen(runtime, generation):
        return corpus_texts(runtime, generation.collection, questions)
    return held_texts(runtime, generation, [label.document for question in questions for label in question.relevant])


def models_fingerprint(settings: AnswerSettings) -> str | None:
    """Hash of the model list without its keys: a model's parameters decide what it answers. None: there is no list to read."""
    import yaml

    if settings.models is None:
        return None
    try:
        return fingerprint(_without_keys(yaml.safe_load(settings.models.read_text(encoding="utf-8"))))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        # Whoever asks a model is told what is wrong with the file.
        return None


def _without_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_keys(inner) for name, inner in value.items() if not str(name).lower().endswith(_SECRET)}
    return [_without_keys(inner) for inner in value] if isinstance(value, list) else value


def describe(runtime: Runtime, generation: Generation, questions: Sequence[Question]) -> dict[str, Any]:
    """Everything the scores depend on."""
    with runtime.database.transaction(snapshot=True) as connection:
        corpus = contents_hash(connection, generation)
        server: Any = connection.execute(
            "SELECT current_setting('server_version'), (SELECT extversion FROM pg_extension WHERE extname = 'vector')"
        ).fetchone()
    return {
        "corpus": corpus,
        "questions": question_set_hash(questions) if questions else None,
        "generation": generation.name,
        "chunker": generation.key.chunker_fp,
        "embedder": generation.key.embedder_fp,
        "index": generation.key.index_fp,
        "configuration": dict(generation.config),
        "ef_search": runtime.beam_of(generation),
        "retrieval": runtime.settings.retrieval_of(generation.collection).model_dump(mode="json"),
        "bm25": runtime.settings.lexical.model_dump(mode="json", include={"k1", "b"}),
        "answer_model": runtime.settings.answers.model,
        "top_k": runtime.settings.answers.top_k,
        "answers": runtime.settings.answers.model_dump(mode="json", include=_ANSWERING),
        "answer_questions": runtime.settings.evaluation.answer_questions,
        "models": models_fingerprint(runtime.settings.answers),
        "similarity": runtime.settings.evaluation.similarity,
        "judge": runtime.settings.judge.model_dump(mode="json", include={"model", "metrics", "repeats"}),
        "libraries": {name: version(name) for name in _LIBRARIES},
        "postgresql": server[0],
        "pgvector_extension": server[1],
    }
