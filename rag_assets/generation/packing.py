"""What a model is given: hits made diverse, joined and packed for its token budget, in a prompt that fits its window."""

from collections.abc import Callable, Mapping, Sequence

from rag_assets.errors import RagAssetsError
from rag_assets.generation.prompt import Passage, build_messages, rendered
from rag_assets.models import Hit
from rag_assets.retrieval.context import Context, ContextPassage, Gap, assemble
from rag_assets.settings import AnswerSettings
from rag_assets.settings.sections import LEAST_CONTEXT_TOKENS

CountTokens = Callable[[Sequence[str]], Sequence[int]]
"""Tokens of each text, as the answering model counts them."""


def pack(
    hits: Sequence[Hit], settings: AnswerSettings, count_tokens: CountTokens, gaps: Mapping[Gap, str] | None = None
) -> Context:
    """The passages a model is given of diverse hits: the first ``top_k``, or what fits, within ``context_tokens``.

    Raises:
        RagAssetsError: not even one hit fits.
    """

    def size(passages: Sequence[ContextPassage]) -> Sequence[int]:
        # The worst case: no rank is longer than the last one.
        last = {hit.chunk_id: len(hits) for hit in hits}
        return count_tokens([rendered(_passage(passage, last)) for passage in passages])

    return assemble(
        hits,
        places=settings.top_k,
        budget=settings.context_tokens,
        size=size,
        gaps=gaps,
        fill=settings.fill_context,
    )


def prompt_passages(passages: Sequence[ContextPassage]) -> list[Passage]:
    """Passages as the prompt shows them, their hits ranked among themselves."""
    best_first = sorted((hit for passage in passages for hit in passage.hits), key=lambda hit: hit.rank)
    ranks = {hit.chunk_id: rank for rank, hit in enumerate(best_first, start=1)}
    return [_passage(passage, ranks) for passage in passages]


def checked_messages(
    question: str, passages: Sequence[Passage], settings: AnswerSettings, count_tokens: CountTokens
) -> list[dict[str, str]]:
    """The chat messages, if the model's window holds them and an answer.

    Raises:
        RagAssetsError: it does not; names what is used and allowed, and every setting that would cure it.
    """
    messages = build_messages(question, passages)
    prompt = sum(count_tokens([message["content"] for message in messages]))
    allowed = settings.window_tokens - settings.answer_tokens - settings.reserve_tokens
    if prompt <= allowed:
        return messages
    taken = sum(count_tokens([rendered(passage) for passage in passages]))
    fitting = allowed - (prompt - taken)
    needed = prompt + settings.answer_tokens + settings.reserve_tokens
    shorter = (
        f"lower answers.context_tokens to {fitting}"
        if fitting >= LEAST_CONTEXT_TOKENS
        else f"ask a question shorter than {sum(count_tokens([question]))} tokens"
    )
    raise RagAssetsError(
        f"The prompt takes {prompt} tokens (passages {taken}, rules and question {prompt - taken}), and {allowed} are "
        f"allowed: answers.window_tokens = {settings.window_tokens}, less answers.answer_tokens = "
        f"{settings.answer_tokens} and answers.reserve_tokens = {settings.reserve_tokens}. To cure it {shorter}, or, if "
        f"the model reads that much, raise answers.window_tokens to {needed}."
    )


def _passage(passage: ContextPassage, ranks: Mapping[str, int]) -> Passage:
    parts = tuple((start, ranks[hit.chunk_id]) for start, hit in passage.parts)
    return Passage(passage.text, passage.document, passage.headings, parts)
