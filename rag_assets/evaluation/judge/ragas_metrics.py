"""ragas: the only module that knows it. Metrics a judge model decides, and metrics that compare texts.

Whatever ragas would turn into a wrong number – a verdict that is neither 0 nor 1, fewer verdicts than statements, no
statement at all, a question without words – is refused here as a reply of the wrong shape, and asked for again.
"""

import json
import logging
import math
import os
import re
import warnings
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rag_assets.evaluation.judge.calls import Judge, NotJudged
from rag_assets.generation import load_litellm
from rag_assets.models import Vectors

ASKED_AGAIN = 2
"""Times a judge is shown what is wrong with its reply."""
RELEVANCY_QUESTIONS = 3
"""Questions the judge makes of an answer; ragas' own default."""

_INPUT = "Now perform the same with the following input\ninput: "
_OUTPUT = "\nOutput: "
_LATIN = re.compile(r"[a-z0-9]", re.IGNORECASE)

Embed = Callable[[Sequence[str]], Vectors]


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer and what it is judged by."""

    question: str
    answer: str
    reference: str | None
    """The gold answer."""
    contexts: tuple[str, ...]
    """Passages the model was given, in order."""
    documents: tuple[str, ...] = ()
    """Documents of those passages, in order, with repeats."""
    relevant: tuple[str, ...] = ()
    """Documents labelled relevant."""


Metric = Callable[[Sample], Awaitable[float]]


def load_ragas() -> Any:
    """Import ``ragas`` (3 s after LiteLLM, hence never at module level) so that it stays silent and off the network."""
    os.environ.setdefault("RAGAS_DO_NOT_TRACK", "true")
    load_litellm()
    # It logs what the judge replied, which quotes documents.
    for name in ("instructor", "ragas"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ragas
        import ragas.metrics.collections
    return ragas


def judged_metrics(judge: Judge, embed: Embed) -> dict[str, Metric]:
    """The metrics of ``judge.settings``, by name. Each raises NotJudged where it can't be measured.

    ``embed`` gives unit vectors of questions, for the answer's relevancy.
    """
    collections = load_ragas().metrics.collections
    llm = _strict_llm(judge)
    faithful = collections.Faithfulness(llm=llm)
    relevant = collections.AnswerRelevancy(llm=llm, embeddings=_embeddings(embed), strictness=RELEVANCY_QUESTIONS)
    precise = collections.ContextPrecision(llm=llm)
    complete = collections.ContextRecall(llm=llm)
    correct = collections.FactualCorrectness(llm=llm)
    arguments: dict[str, tuple[Any, Callable[[Sample], dict[str, Any]]]] = {
        "faithfulness": (
            faithful,
            lambda s: {"user_input": s.question, "response": s.answer, "retrieved_contexts": list(s.contexts)},
        ),
        "answer_relevancy": (relevant, lambda s: {"user_input": s.question, "response": s.answer}),
        "context_precision": (precise, _with_reference),
        "context_recall": (complete, _with_reference),
        "factual_correctness": (correct, lambda s: {"response": s.answer, "reference": s.reference}),
    }
    return {name: _judged(*arguments[name]) for name in judge.settings.metrics}


def _with_reference(sample: Sample) -> dict[str, Any]:
    return {
        "user_input": sample.question,
        "reference": sample.reference,
        "retrieved_contexts": list(sample.contexts),
    }


def _judged(metric: Any, arguments: Callable[[Sample], dict[str, Any]]) -> Metric:
    async def score(sample: Sample) -> float:
        try:
            result = await metric.ascore(**arguments(sample))
        except Exception as error:  # instructor wraps whatever happened below it
            raise NotJudged(_reason(error)) from None
        value = float(result.value)
        if not math.isfinite(value):
            raise NotJudged("ragas gave no number")
        return value

    return score


def _reason(error: BaseException) -> str:
    """Why a judgement failed, in words that quote nothing of the reply."""
    from pydantic import ValidationError

    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    for link in chain:
        if isinstance(link, NotJudged):
            return str(link)
    for link in chain:
        if isinstance(link, ValidationError):
            return (
                "invalid JSON" if any(p["type"] == "json_invalid" for p in link.errors()) else "JSON of the wrong shape"
            )
    if any(isinstance(link, json.JSONDecodeError) for link in chain):
        return "invalid JSON"
    return f"ragas failed ({type(chain[-1]).__name__})"


def _strict_llm(judge: Judge) -> Any:
    """Judge → instructor → ragas' own LLM, with replies checked before ragas sees them."""
    import instructor
    from ragas.llms import llm_factory
    from ragas.llms.base import InstructorBaseRagasLLM

    client = instructor.from_litellm(judge.acompletion, mode=instructor.Mode.JSON)
    inner = llm_factory(
        str(judge.settings.model), provider="litellm", client=client, adapter="litellm", max_retries=ASKED_AGAIN
    )

    class StrictLLM(InstructorBaseRagasLLM):
        """ragas' LLM, but for replies it would misread."""

        def generate(self, prompt: str, response_model: Any) -> Any:
            raise NotImplementedError("Only asynchronous calls are made.")

        async def agenerate(self, prompt: str, response_model: Any) -> Any:
            return await inner.agenerate(prompt, _strict(response_model, _asked_of(prompt)))

    return StrictLLM()


def _asked_of(prompt: str) -> Mapping[str, Any]:
    """The input at the end of one of ragas' prompts. It is JSON, so no text in it can look like its border."""
    asked = json.loads(prompt.rpartition(_INPUT)[2].rpartition(_OUTPUT)[0])
    assert isinstance(asked, dict)
    return asked


def _strict(model: Any, asked: Mapping[str, Any]) -> Any:
    """A response model that also refuses what is well-typed and means nothing."""
    from pydantic import create_model, model_validator

    def check(reply: Any) -> Any:
        problem = _problem(reply.model_dump(), asked)
        if problem:
            raise ValueError(problem)
        return reply

    validators: dict[str, Any] = {"check": model_validator(mode="after")(check)}
    # The name and the docstring go into the prompt.
    return create_model(model.__name__, __base__=model, __doc__=model.__doc__, __validators__=validators)


def _problem(reply: Mapping[str, Any], asked: Mapping[str, Any]) -> str | None:
    for name, value in reply.items():
        if isinstance(value, list):
            if not value:
                return f"{name} must not be empty"
            if name == "statements" and name in asked and len(value) != len(asked[name]):
                return f"statements must have one verdict for each of the {len(asked[name])} statements"
            if not all(item.strip() if isinstance(item, str) else _problem(item, {}) is None for item in value):
                return f"every item of {name} must have a text, and a verdict of 0 or 1"
        elif isinstance(value, int) and value not in (0, 1):
            return f"{name} must be 0 or 1"
        elif name in ("question", "statement") and not str(value).strip():
            return f"{name} must not be empty"
    return None


def _embeddings(embed: Embed) -> Any:
    from ragas.embeddings.base import BaseRagasEmbedding

    class OurEmbeddings(BaseRagasEmbedding):
        """The index's own model."""

        def embed_text(self, text: str, **kwargs: Any) -> list[float]:
            return [float(number) for number in embed([text])[0]]

        async def aembed_text(self, text: str, **kwargs: Any) -> list[float]:
            return self.embed_text(text)

    return OurEmbeddings()


def similarity_metrics(embed: Embed) -> Callable[[Sample], Awaitable[dict[str, float]]]:
    """Every comparison of texts that applies to a sample, by name; no model but the embedder is asked.

    ``embed`` gives unit vectors of documents.

    - ``bleu``, ``chrf``, ``string_similarity`` (1 − normalised Levenshtein distance), ``semantic_similarity`` (cosine):
      there is a gold answer.
    - ``rouge_l``: and it is mostly written in Latin letters, for rouge_score reads no others.
    - ``id_context_precision``, ``id_context_recall``: documents given to the model against those labelled.
    """
    ragas = load_ragas()
    collections = ragas.metrics.collections
    texts = {
        # Else an answer of fewer than four words scores 0 even where it equals the golden one.
        "bleu": collections.BleuScore(kwargs={"use_effective_order": True}),
        "chrf": collections.CHRFScore(),
        "rouge_l": collections.RougeScore(rouge_type="rougeL", mode="fmeasure"),
        "string_similarity": collections.NonLLMStringSimilarity(),
        "semantic_similarity": collections.SemanticSimilarity(embeddings=_embeddings(embed)),
    }
    # These two are in its older part alone, whose public names warn.
    from ragas.metrics._context_precision import IDBasedContextPrecision
    from ragas.metrics._context_recall import IDBasedContextRecall

    ids = {"id_context_precision": IDBasedContextPrecision(), "id_context_recall": IDBasedContextRecall()}

    async def score(sample: Sample) -> dict[str, float]:
        found: dict[str, float] = {}
        if sample.reference:
            for name, metric in texts.items():
                if name == "rouge_l" and not _mostly_latin(sample.reference):
                    continue
                pair = {"reference": sample.reference, "response": sample.answer}
                if name == "bleu":
                    # It parts texts at ". " and then takes the parts for alternatives; a line break is no part to it.
                    pair = {side: text.replace(". ", ".\n") for side, text in pair.items()}
                found[name] = min(1.0, float((await metric.ascore(**pair)).value)) if sample.answer.strip() else 0.0
        if sample.relevant:
            row = ragas.SingleTurnSample(
                retrieved_context_ids=list(sample.documents), reference_context_ids=list(sample.relevant)
            )
            for name, metric in ids.items():
                found[name] = float(await metric._single_turn_ascore(row, None)) if sample.documents else 0.0
        return found

    return score


def _mostly_latin(text: str) -> bool:
    letters = [character for character in text if character.isalnum()]
    return 2 * sum(bool(_LATIN.match(character)) for character in letters) > len(letters)
