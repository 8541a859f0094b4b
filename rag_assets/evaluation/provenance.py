"""What an evaluation was made of: the corpus as labels see it, and the fingerprint that says when scores may differ."""

from collections.abc import Sequence
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


def corpus_texts(runtime: Runtime, collection: str, questions: Sequence[Question]) -> dict[str, str]:
    """The text of every labelled document that is in the collection, by uri."""
    wanted = sorted({label.document for question in questions for label in question.relevant})
    with runtime.database.transaction(snapshot=True) as connection:
        rows = connection.execute(
            """
            SELECT s.uri, (SELECT string_agg(element ->> 1, E'\\n\\n' ORDER BY place)
                           FROM jsonb_array_elements(d.elements) WITH ORDINALITY AS e(element, place))
            FROM document d JOIN source_file s USING (doc_id) WHERE s.collection = %s AND s.uri = ANY(%s)
            """,
            (collection, wanted),
        ).fetchall()
    return {row[0]: row[1] or "" for row in rows}


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
