"""From a target generation to a verdict, a promotion or a refusal, and a report: the steps the index assets take."""

from pathlib import Path

from rag_assets.database.generations import Generation
from rag_assets.errors import GateRefused
from rag_assets.evaluation import gates, runner, store
from rag_assets.evaluation.report import write_report
from rag_assets.evaluation.result_json import to_json
from rag_assets.evaluation.results import Check, EvaluationResult
from rag_assets.fingerprint import fingerprint
from rag_assets.indexing import promotion
from rag_assets.indexing.hnsw_index import contents_hash, existing_target
from rag_assets.indexing.integrity import inspect
from rag_assets.indexing.promotion import Promotion
from rag_assets.retrieval.search import live_generation
from rag_assets.runtime import Runtime


def check_target(runtime: Runtime, collection: str) -> list[Check]:
    """Is the target generation complete and sound? One that is not is refused, with the reason."""
    generation = existing_target(runtime, collection)
    checks = gates.structural_checks(inspect(runtime, generation))
    failed = [check.text for check in checks if check.passed is False]
    if failed:
        promotion.refuse(runtime, generation, " ".join(failed))
    return checks


def evaluate_target(runtime: Runtime, collection: str) -> EvaluationResult:
    """Measure retrieval of the target generation and judge it; a failed one is refused, with its report written."""
    generation = existing_target(runtime, collection)
    questions = runtime.settings.collection(collection).questions
    live = runtime.live(collection)
    command = f"rag-assets evaluate --collection {collection}"
    result = runner.evaluate_retrieval(runtime, generation, questions, command=command)
    result = gates.judge(runtime, generation, result)
    run_id = store.save(runtime, generation, result, judged_beside=live.id if live else None)
    if result.verdict == "pass":
        promotion.ready(runtime, generation)
    else:
        promotion.refuse(runtime, generation, " ".join(result.reasons))
        path = write_report(result, report_folder(runtime, generation, run_id))
        store.save(runtime, generation, result, run_id=run_id, report=path)
    return result


def answer_target(runtime: Runtime, collection: str) -> EvaluationResult:
    """Add answers to the target's evaluation; without golden questions there is nothing to answer."""
    generation = existing_target(runtime, collection)
    run_id, result = store.latest(runtime, generation)
    questions = runtime.settings.collection(collection).questions
    if questions is None:
        return result
    result = runner.evaluate_answers(runtime, generation, questions, result)
    store.save(runtime, generation, result, run_id=run_id)
    return result


def promote_target(runtime: Runtime, collection: str, *, who: str) -> Promotion:
    """Make the target generation live if its last evaluation passed and still describes it; a no-op when it is live.

    Raises:
        GateRefused: it was judged and failed, or changed since it was judged.
    """
    generation = existing_target(runtime, collection)
    if generation.is_live:
        return Promotion(generation, generation, changed=False)
    run_id, result = store.latest(runtime, generation)
    if result.fingerprint.get("corpus") != contents(runtime, generation):
        raise GateRefused(
            f"{generation.name} changed since it was evaluated. Materialize `retrieval_evaluation` again."
        )
    live = runtime.live(collection)
    if store.judged_beside(runtime, run_id) != (live.id if live else None):
        raise GateRefused(
            f"{generation.name} was judged beside another index than {live.name if live else 'none'}, which is live now. "
            "Materialize `retrieval_evaluation` again."
        )
    failed = [check.text for check in gates.structural_checks(inspect(runtime, generation)) if check.passed is False]
    failed += [check.text for check in result.checks if check.passed is not True]
    if failed:
        promotion.refuse(runtime, generation, " ".join(failed))
        raise GateRefused(f"{generation.name} did not pass: {' '.join(failed)}")
    done = promotion.promote(
        runtime,
        generation,
        who=who,
        reason=" ".join(result.reasons) or result.verdict,
        replacing=live.id if live else None,
    )
    promotion.drop_superfluous(runtime, collection)
    return done


def write_live_report(runtime: Runtime, collection: str) -> tuple[EvaluationResult, Path]:
    """Write the report of the live generation's last evaluation; returns the path of the HTML file."""
    generation = live_generation(runtime, collection)
    run_id, result = store.latest(runtime, generation)
    path = write_report(result, report_folder(runtime, generation, run_id))
    store.save(runtime, generation, result, run_id=run_id, report=path)
    return result, path


def evaluate_live(
    runtime: Runtime, collection: str, questions: Path | None, *, command: str
) -> tuple[EvaluationResult, Path]:
    """Evaluate what is live now, with any question file, and write the report."""
    generation = live_generation(runtime, collection)
    result = runner.evaluate(runtime, generation, questions, command=command)
    run_id = store.save(runtime, generation, result)
    path = write_report(result, report_folder(runtime, generation, run_id))
    store.save(runtime, generation, result, run_id=run_id, report=path)
    return result, path


def report_folder(runtime: Runtime, generation: Generation, run_id: int) -> Path:
    """``<RAG_HOME>/reports/<collection>/<sequence>-<evaluation>``."""
    return runtime.settings.home / "reports" / generation.collection / f"{generation.sequence:04d}-{run_id:06d}"


def scores_hash(result: EvaluationResult) -> str:
    """Hash of the scores, without anything the clock decides: the data version of an evaluation."""
    data = to_json(result)
    return fingerprint({key: data[key] for key in ("retrieval", "answers", "fingerprint", "ann_recall")})


def summary_markdown(report: Path) -> str:
    """The Markdown twin of a report, for the asset page."""
    return report.with_suffix(".md").read_text(encoding="utf-8")


def contents(runtime: Runtime, generation: Generation) -> str:
    """Hash of what a generation holds."""
    with runtime.database.transaction() as connection:
        return contents_hash(connection, generation)
