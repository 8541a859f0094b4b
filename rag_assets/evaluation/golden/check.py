"""The check of a question set against the collection it is to judge: everything ``rag-assets questions check`` says."""

from pathlib import Path

from rag_assets.database.generations import Generation
from rag_assets.evaluation import store
from rag_assets.evaluation.golden.coverage import check_coverage
from rag_assets.evaluation.golden.duplicates import check_duplicates
from rag_assets.evaluation.golden.findings import CheckReport
from rag_assets.evaluation.golden.labels import check_labels, shut_out
from rag_assets.evaluation.golden.leaks import check_leaks, survey
from rag_assets.evaluation.golden.place import indexed_as
from rag_assets.evaluation.golden.questions import load_questions, resolve_labels
from rag_assets.evaluation.golden.size import check_size
from rag_assets.evaluation.provenance import corpus_texts, every_text
from rag_assets.retrieval.passages import live_generation
from rag_assets.runtime import Runtime

_METRIC = "ndcg@10"


def check_questions(runtime: Runtime, collection: str, file: Path) -> CheckReport:
    """Is this set fit to judge the collection? Changes nothing; the same set and documents give the same report.

    Raises:
        ConfigurationError: the question file can't be read or is wrong.
        RagAssetsError: nothing is live yet.
    """
    generation = live_generation(runtime, collection)
    questions = load_questions(file)
    report = resolve_labels(questions, corpus_texts(runtime, collection, questions))
    surveyed = survey(every_text(runtime, collection), questions)
    scores, source = _last_scores(runtime, generation)
    sections = (
        check_labels(questions, report, shut_out(runtime, generation, report.measurable)),
        check_coverage(questions, report, surveyed.languages),
        check_duplicates(questions, runtime.embedder_of(generation).embed_queries),
        check_leaks(questions, surveyed, indexed_as(runtime.settings.collection(collection), file)),
        check_size(len(report.measurable), scores, source, runtime.settings.gates_of(collection).ndcg_drop),
    )
    return CheckReport(collection, generation.name, file, len(questions), sections)


def _last_scores(runtime: Runtime, generation: Generation) -> tuple[list[float], str | None]:
    """nDCG@10 by question of the live generation's last evaluation, and which that is."""
    found = store.latest_or_none(runtime, generation)
    if found is None:
        return [], None
    result = found[1]
    scores = [score for item in result.questions if (score := item.scores.get(_METRIC)) is not None]
    return scores, f"the last evaluation ({result.generation}, {result.created_at})"
