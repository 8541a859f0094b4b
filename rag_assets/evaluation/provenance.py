"""What an evaluation was made of: the corpus as labels see it, and the fingerprint that says when scores may differ."""

from collections.abc import Collection, Iterator, Sequence
from importlib.metadata import version
from typing import Any

from rag_assets.database.generations import Generation
from rag_assets.evaluation.questions import Question, question_set_hash
from rag_assets.indexing.hnsw_index import contents_hash
from rag_assets.runtime import Runtime

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
        "ef_search": runtime.settings.index.ef_search,
        "answer_model": runtime.settings.answers.model,
        "top_k": runtime.settings.answers.top_k,
        "similarity": runtime.settings.evaluation.similarity,
        "judge": runtime.settings.judge.model_dump(mode="json", include={"model", "metrics", "repeats"}),
        "libraries": {name: version(name) for name in _LIBRARIES},
        "postgresql": server[0],
        "pgvector_extension": server[1],
    }
