"""Drafts golden questions with the configured language model: asked of sampled passages, checked, and never trusted."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rag_assets.errors import ConfigurationError, RagAssetsError
from rag_assets.evaluation.golden.asking import Unusable, build_messages, read_reply
from rag_assets.evaluation.golden.drafts import Draft
from rag_assets.evaluation.golden.passages import Passage, sample_passages
from rag_assets.evaluation.golden.questions import Label, Question
from rag_assets.evaluation.golden.validation import Known, check_proposal
from rag_assets.evaluation.judge.calls import CURRENT, Judge, Judgement, NotJudged, Spent
from rag_assets.evaluation.judge.judging import build_caller
from rag_assets.evaluation.provenance import texts_of
from rag_assets.fingerprint import fingerprint
from rag_assets.generation.extractive import OFFLINE_NAME
from rag_assets.models import Embedder
from rag_assets.retrieval.passages import live_generation
from rag_assets.runtime import Runtime

_TRIES = 2
"""Passages asked about per question wanted: some drafts are rejected."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A passage that gave no draft, and why."""

    document: str
    reason: str
    question: str | None = None
    """What was proposed, if anything was."""


@dataclass(frozen=True, slots=True)
class Drafted:
    """What became of one request for drafts."""

    drafts: tuple[Draft, ...]
    rejected: tuple[Rejected, ...]
    model: str
    spent: Spent
    """What was paid; kept replies cost nothing."""

    @property
    def reasons(self) -> dict[str, int]:
        """Rejections by reason, the most frequent first."""
        return dict(Counter(item.reason for item in self.rejected).most_common())


def draft_questions(runtime: Runtime, collection: str, known: Sequence[Question], count: int, seed: int) -> Drafted:
    """Draft up to ``count`` questions about documents that none of ``known`` names, then about the others.

    Raises:
        ConfigurationError: no language model is configured.
        RagAssetsError: nothing is live yet, no passage is long enough, the database failed, or no draft came about.
    """
    judge = _caller(runtime, collection)
    generation = live_generation(runtime, collection)
    covered = {label.document for question in known for label in question.relevant}
    passages = sample_passages(runtime, generation, covered, count * _TRIES, seed)
    if not passages:
        raise RagAssetsError(
            f"No passage of {collection!r} is long enough to ask about. Add documents of some sentences."
        )
    texts = texts_of(runtime, collection, {passage.document for passage in passages})
    embedder = runtime.embedder_of(generation)
    work = _Work(judge, embedder, Known(known, embedder.embed_queries([q.question for q in known])), texts)
    done = asyncio.run(work.draft(passages, count, runtime))
    if not done.drafts:
        reasons = ", ".join(f"{number} × {reason}" for reason, number in done.reasons.items())
        raise RagAssetsError(
            f"No question was drafted by {done.model} from {len(done.rejected)} passages: {reasons}. "
            "Correct the model list (answers.models), try a stronger answers.model, or another --seed."
        )
    return done


def _caller(runtime: Runtime, collection: str) -> Judge:
    answers = runtime.settings.answers
    if answers.model == OFFLINE_NAME:
        raise ConfigurationError(
            f"answers.model = {OFFLINE_NAME!r} can't write questions: it only selects sentences. Name a model list in "
            "answers.models and a language model of it in answers.model (README, Your own language model)."
        )
    # Replaying alone is a promise of evaluations; a person who asks for drafts wants new ones.
    limits = runtime.settings.judge.model_copy(update={"model": answers.model, "replay_only": False})
    return build_caller(runtime, collection, limits, asker="answers")


@dataclass(slots=True)
class _Work:
    """One request at work; proposals are checked in the order of their passages, so that the replies decide the result."""

    judge: Judge
    embedder: Embedder
    known: Known
    texts: dict[str, str]

    async def draft(self, passages: Sequence[Passage], count: int, runtime: Runtime) -> Drafted:
        gate = asyncio.Semaphore(self.judge.settings.concurrency)
        drafts: list[Draft] = []
        rejected: list[Rejected] = []
        left = list(passages)
        while left and len(drafts) < count:
            batch, left = left[: count - len(drafts)], left[count - len(drafts) :]
            replies = await asyncio.gather(*(self._ask(passage, gate) for passage in batch), return_exceptions=True)
            if self.judge.broken is not None:
                raise self.judge.broken
            for passage, reply in zip(batch, replies, strict=True):
                if isinstance(reply, NotJudged):
                    rejected.append(Rejected(passage.document, str(reply)))
                elif isinstance(reply, BaseException):
                    raise reply  # a fault of ours
                else:
                    made = self._checked(passage, reply)
                    (drafts if isinstance(made, Draft) else rejected).append(made)  # type: ignore[arg-type]
                runtime.progress("draft", len(drafts), count)
        return Drafted(tuple(drafts), tuple(rejected), str(self.judge.settings.model), replace(self.judge.spent))

    async def _ask(self, passage: Passage, gate: asyncio.Semaphore) -> str:
        async with gate:
            CURRENT.set(Judgement((passage.document,)))
            response = await self.judge.acompletion(messages=build_messages(passage))
            return str(response.choices[0].message.content or "")

    def _checked(self, passage: Passage, reply: str) -> Draft | Rejected:
        question = None
        try:
            proposal = read_reply(reply)
            question = proposal.question
            check_proposal(proposal, passage, self.texts[passage.document])
            self.known.add(question, self.embedder.embed_queries([question]))
        except Unusable as error:
            return Rejected(passage.document, str(error), question)
        key = f"d-{fingerprint([passage.document, question])[:10]}"
        label = Label(passage.document, proposal.quote)
        return Draft(Question(key, question, proposal.answer, (label,), None, proposal.kind), passage)
