"""The baseline: an evaluation that a team keeps beside its questions, so that many small losses add up to something seen.

A comparison with the live index alone lets quality slip by a little every time.
"""

import json
from dataclasses import replace
from pathlib import Path

from rag_assets.errors import ConfigurationError, RagAssetsError
from rag_assets.evaluation.result_json import from_json, to_json
from rag_assets.evaluation.results import EvaluationResult, QuestionResult


def save_baseline(result: EvaluationResult, path: Path) -> None:
    """Write what a later evaluation is compared with: the scores of each question, and nothing of any document.

    Raises:
        RagAssetsError: the file can't be written.
    """
    questions = tuple(
        QuestionResult(item.id, "", scores=item.scores, answer_scores=item.answer_scores) for item in result.questions
    )
    bare = replace(
        result,
        questions=questions,
        by_slice={},
        checks=(),
        reasons=(),
        invalid_labels=(),
        previous=None,
        baseline=None,
        history=(),
        documents={},
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(to_json(bare), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise RagAssetsError(
            f"The baseline can't be written to {path}: {error.strerror}. Name another place."
        ) from None


def load_baseline(path: Path) -> EvaluationResult:
    """Read a baseline.

    Raises:
        ConfigurationError: the file is not there, or is no baseline; says how to make one.
    """
    cure = "Make one with `rag-assets evaluate --save-baseline`, or unset `baseline` of the collection."
    try:
        return from_json(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigurationError(f"The baseline {path} can't be read: {error.strerror}. {cure}") from None
    except (ValueError, RagAssetsError):
        raise ConfigurationError(f"{path} is no baseline of this version. {cure}") from None
