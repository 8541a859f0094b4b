"""From a target generation to a verdict, a promotion or a refusal, and a report: the steps the index assets take."""

import base64
from dataclasses import replace
from pathlib import Path

from rag_assets.database.generations import Generation
from rag_assets.errors import GateRefused
from rag_assets.evaluation import gates, runner, store
from rag_assets.evaluation.benchmark import benchmark
from rag_assets.evaluation.checks import structural_checks, threshold_checks
from rag_assets.evaluation.report.key_figures import score_rows
from rag_assets.evaluation.report.page import write_report
from rag_assets.evaluation.report.plots import as_png, score_plot
from rag_assets.evaluation.result_json import to_json
from rag_assets.evaluation.results import Check, EvaluationResult
from rag_assets.fingerprint import fingerprint
from rag_assets.indexing import promotion
from rag_assets.indexing.hnsw_index import contents_hash, existing_target
from rag_assets.indexing.integrity import inspect
from rag_assets.indexing.promotion import Promotion
from rag_assets.retrieval.passages import live_generation
from rag_assets.runtime import Runtime


def check_target(runtime: Runtime, collection: str) -> list[Check]:
    """Is the target generation complete and sound? One that is not is refused, with the reason."""
    generation = existing_target(runtime, collection)
    checks = structural_checks(inspect(runtime, generation))
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
    return _settle(runtime, generation, run_id, result)


def answer_target(runtime: Runtime, collection: str) -> EvaluationResult:
    """Add answers to the target's evaluation and judge it again; without golden questions there is nothing to answer."""
    generation = existing_target(runtime, collection)
    run_id, result = store.latest(runtime, generation)
    questions = runtime.settings.collection(collection).questions
    if questions is None:
        return result
    result = runner.evaluate_answers(runtime, generation, questions, result)
    return _settle(runtime, generation, run_id, gates.judge(runtime, generation, result, run_id=run_id))


def _settle(runtime: Runtime, generation: Generation, run_id: int, result: EvaluationResult) -> EvaluationResult:
    """Note what a verdict means for its generation, and keep the evaluation; a refusal has its report at once."""
    path = None
    if result.verdict == "pass":
        promotion.ready(runtime, generation)
    else:
        promotion.refuse(runtime, generation, " ".join(result.reasons))
        path = write_report(result, report_folder(runtime, generation, run_id))
    store.save(runtime, generation, result, run_id=run_id, report=path)
    return result


def benchmark_target(runtime: Runtime, collection: str) -> EvaluationResult:
    """Add the latency benchmark to the target's evaluation and judge it for the last time.

    Nothing is measured where ``benchmark.enabled`` is false, or no golden questions say that the index is to be judged.
    """
    generation = existing_target(runtime, collection)
    run_id, result = store.latest(runtime, generation)
    if not runtime.settings.benchmark.enabled or not result.questions:
        return result
    result = replace(result, benchmark=benchmark(runtime, generation))
    return _settle(runtime, generation, run_id, gates.judge(runtime, generation, result, run_id=run_id, finished=True))


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
    failed = [check.text for check in structural_checks(inspect(runtime, generation)) if check.passed is False]
    failed += [check.text for check in result.checks if check.passed is not True]
    # A floor of what was never measured, because a step was left out, is not met either.
    judged = {check.name for check in result.checks}
    gate = runtime.settings.gates_of(collection)
    for check in threshold_checks(result, gate, finished=True):
        if check.name not in judged and check.passed is not True:
            failed.append(check.text)
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
    return evaluate_generation(runtime, live_generation(runtime, collection), questions, command=command)


def evaluate_generation(
    runtime: Runtime, generation: Generation, questions: Path | None, *, command: str
) -> tuple[EvaluationResult, Path]:
    """Evaluate a generation, with any question file, and write its report; both are kept with it.

    Of one that is not live it is made aside: it is compared with the live one, opens no gate, and changes no state.
    """
    result = runner.evaluate(runtime, generation, questions, command=command)
    result = replace(result, aside=not generation.is_live)
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


def summary_markdown(result: EvaluationResult, report: Path) -> str:
    """The Markdown twin of a report with its main plot, for the asset page."""
    text = report.with_suffix(".md").read_text(encoding="utf-8")
    rows = score_rows(result)
    if not rows:
        return text
    picture = base64.b64encode(as_png(score_plot(rows))).decode("ascii")
    before, heading, after = text.partition("## Requirements")
    return f"{before}![Key scores](data:image/png;base64,{picture})\n\n{heading}{after}"


def contents(runtime: Runtime, generation: Generation) -> str:
    """Hash of what a generation holds."""
    with runtime.database.transaction() as connection:
        return contents_hash(connection, generation)
