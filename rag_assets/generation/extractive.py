"""The offline answerer: quotes the sentences that answer best, or says that none does. No language model involved.

``extract_answer`` is the pure core; ``register_offline_answerer`` offers it to LiteLLM as a provider, so that the rest
of the project calls it, times it and falls back to it exactly as it would any other model.
"""

import asyncio
import math
import re
import textwrap
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rag_assets.chunking.sentences import sentence_spans
from rag_assets.generation import load_litellm
from rag_assets.generation.prompt import ABSTENTION, parse_messages, without_marks
from rag_assets.models import Vectors

PROVIDER = "rag-assets"
OFFLINE_NAME = "offline-extractive"
"""``model_name`` of the offline answerer, in every router."""
OFFLINE_MODEL = f"{PROVIDER}/{OFFLINE_NAME}"

Embed = Callable[[Sequence[str]], Vectors]
Ranks = Sequence[tuple[int, int]]
"""Of the parts of a passage: (first character, rank by relevance counted from 1), in reading order."""

MAX_SENTENCES = 3
MAX_SENTENCE_CHARACTERS = 400
"""A longer sentence (a table in one line, a text without full stops) stands as pieces cut between words."""
_RANK_WEIGHT = 0.3
"""Divided by the rank of the passage. With it, three sentences of the right passage hold the answer to 94 % of SQuAD's
questions (21,000 passages, all-MiniLM-L6-v2)."""
_WORTH_ADDING = 0.6
"""Share of the best score from which a further sentence is quoted: XQuAD-en loses 1.6 points of answers against always
quoting three sentences, and quotes two on average."""
_NEAR_DUPLICATE = 0.9
"""Cosine from which a sentence adds nothing to one already chosen."""
_HEADING_WORDS = 10
_BODY_CHARACTERS = 40
"""A line of at most so many words, above a sentence of at least so many characters, is a heading."""
SUPPORT_THRESHOLD = 0.70
"""Least cosine plus IDF overlap of the best sentence. Set with all-MiniLM-L6-v2 so that about 5 % of the answerable
questions are lost: 5 % of XQuAD-en, 1 % of MedQuAD, 6 % of a set of software documentation. Without the gold document
it abstains on 97 / 92 / 97 % against random passages, on 67 / 42 / 19 % against the nearest others, which may well hold
an answer too. ``evals/benchmarks/answering.py`` measures it again."""

_STOP_WORDS = frozenset(
    """
    a about all also am an and any are as at be been being but by can could did do does doing for from get had has have
    having he her his how i if in into is it its kind many may me might much must my no not of often on or our out over
    s shall she should so some such t than that the their them then there these they this those to type under up us was
    we were what when where which while who whom whose why will with would you your
    """.split()  # noqa: SIM905 - twenty to a line reads better than one quoted word a line
)
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|[^\W_]+")
"""A word; kana and ideographs, which stand without blanks between words, count one by one."""
_SENTENCE_END = re.compile(r"[.!?…。！？।؟][\"'”’»)\]」』]*$")


@dataclass(frozen=True, slots=True)
class Quote:
    """A sentence of a passage, word for word but for line breaks."""

    text: str
    passage: int
    """Number of the passage in the prompt, counted from 1."""


@dataclass(frozen=True, slots=True)
class ExtractedAnswer:
    """What the passages say to a question."""

    text: str
    """The quotes with their citations, ``Sentence one. [2] Sentence two. [1]``, or the abstention sentence."""
    quotes: tuple[Quote, ...]
    """In reading order; empty when it abstains."""
    support: float
    """How well the passages bear on the question; below ``SUPPORT_THRESHOLD`` it abstains."""


def extract_answer(
    question: str, passages: Sequence[str], embed: Embed, ranks: Sequence[Ranks] = ()
) -> ExtractedAnswer:
    """Answer with the best sentence of the passages and up to two more that add to it.

    A sentence scores its cosine to the question, plus the IDF-weighted share of the question's terms it holds, plus
    0.3 / rank of its part of a passage. Headings are never quoted, nor are questions: the sentence after one stands in its place.

    Args:
        question: As asked.
        passages: In reading order.
        embed: Unit vectors of texts; called once, with the question first.
        ranks: Of each passage; without, they are in order of rank, best first.
    """
    candidates, starts = _candidates(passages)
    asked = terms(question)
    if not candidates or not asked:
        return ExtractedAnswer(ABSTENTION, (), 0.0)
    vectors = embed([question, *(quote.text for quote in candidates)])
    relevance = vectors[1:] @ vectors[0] + _overlaps(asked, candidates)
    support = float(relevance.max())
    if support < SUPPORT_THRESHOLD:
        return ExtractedAnswer(ABSTENTION, (), support)
    scores = relevance + _RANK_WEIGHT / np.array(_ranks(candidates, starts, ranks))
    _set_aside(scores, candidates)
    chosen = tuple(candidates[index] for index in sorted(_choose(scores, vectors[1:])))
    return ExtractedAnswer(_cite(chosen) or ABSTENTION, chosen, support)


def terms(text: str) -> frozenset[str]:
    """The words of ``text`` that carry meaning: case-folded, without English stop words, inflections cut off."""
    return frozenset(_stem(word) for word in _WORD.findall(text.casefold()) if word not in _STOP_WORDS)


def _stem(word: str) -> str:
    """Cut plural (after Harman's S-stemmer, 1991), -ing, -ed and a final -e, so that inflections of a word agree."""
    if len(word) > 3 and word.endswith("ies"):
        word = word[:-3] + "y"
    elif len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for suffix in ("ing", "ed"):
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            word = word[: -len(suffix)]
            word = word[:-1] if word[-1] == word[-2] and word[-1] not in "ls" else word
            break
    return word[:-1] if len(word) > 3 and word.endswith("e") else word


def _candidates(passages: Sequence[str]) -> tuple[list[Quote], list[int]]:
    """The sentences that may be quoted, and where in its passage each begins."""
    found = [
        (Quote(piece, number), start)
        for number, passage in enumerate(passages, start=1)
        for start, end in sentence_spans(passage)
        for piece in textwrap.wrap(
            " ".join(passage[start:end].split()),
            MAX_SENTENCE_CHARACTERS,
            break_long_words=False,
            break_on_hyphens=False,
        )
        if len(piece) <= MAX_SENTENCE_CHARACTERS
    ]
    return [quote for quote, _ in found], [start for _, start in found]


def _ranks(candidates: Sequence[Quote], starts: Sequence[int], ranks: Sequence[Ranks]) -> list[int]:
    """The rank of what each sentence begins in."""
    found = []
    for quote, start in zip(candidates, starts, strict=True):
        parts = ranks[quote.passage - 1] if ranks else ()
        found.append(next((rank for place, rank in reversed(parts) if place <= start), quote.passage))
    return found


def _overlaps(asked: frozenset[str], candidates: Sequence[Quote]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Share (0 … 1) of the question's terms each candidate holds, weighted by BM25's IDF over the candidates."""
    held = [terms(quote.text) & asked for quote in candidates]
    frequency = Counter(term for present in held for term in present)
    count = len(candidates)
    idf = {term: math.log(1 + (count - frequency[term] + 0.5) / (frequency[term] + 0.5)) for term in asked}
    total = sum(idf.values())
    return np.array([sum(idf[term] for term in present) / total for present in held], dtype=np.float32)


def _set_aside(scores: np.ndarray[Any, np.dtype[np.floating[Any]]], candidates: Sequence[Quote]) -> None:
    """In place: what answers nothing by itself drops out. A question (as in an FAQ) hands its score to what follows."""
    headings = _headings(candidates)
    for index, quote in enumerate(candidates):
        if quote.text.endswith(("?", "？", "؟")):
            if index + 1 < len(candidates) and candidates[index + 1].passage == quote.passage:
                scores[index + 1] = max(scores[index + 1], scores[index])
            scores[index] = -math.inf
        elif index in headings:
            scores[index] = -math.inf


def _headings(candidates: Sequence[Quote]) -> set[int]:
    """Indexes of the lines that head others: a few words without a full stop, above a real sentence or another heading."""
    found: set[int] = set()
    for index in range(len(candidates) - 2, -1, -1):
        text, following = candidates[index].text, candidates[index + 1]
        is_short = len(text.split()) <= _HEADING_WORDS and not _SENTENCE_END.search(text)
        is_list_or_table = text.startswith(("-", "*", "•", "·")) or "|" in text
        stands_above = index + 1 in found or len(following.text) > max(len(text), _BODY_CHARACTERS)
        if is_short and not is_list_or_table and stands_above and following.passage == candidates[index].passage:
            found.add(index)
    return found


def _choose(scores: np.ndarray[Any, np.dtype[np.floating[Any]]], vectors: Vectors) -> list[int]:
    """Indexes of the sentences to quote, best first."""
    order = [int(index) for index in np.argsort(-scores, kind="stable") if np.isfinite(scores[index])]
    chosen: list[int] = []
    for index in order:
        if len(chosen) == MAX_SENTENCES or scores[index] < _WORTH_ADDING * scores[order[0]]:
            break
        if all(float(vectors[index] @ vectors[other]) < _NEAR_DUPLICATE for other in chosen):
            chosen.append(index)
    return chosen


def _cite(quotes: Sequence[Quote]) -> str:
    """The text of the answer. A quote without a full stop, such as a list item, ends its paragraph."""
    parts = []
    for quote in quotes:
        text = without_marks(quote.text)
        parts.append(f"{text} [{quote.passage}]" + (" " if _SENTENCE_END.search(text) else "\n\n"))
    return "".join(parts).strip()


def register_offline_answerer(embed: Embed) -> None:
    """Make ``rag-assets/offline-extractive`` a model of LiteLLM: sync, async, streamed, with token usage, free.

    Registering again puts the new ``embed`` in place of the old one: there is one offline answerer per process.
    """
    litellm = load_litellm()
    from litellm.llms.custom_llm import CustomLLM

    class OfflineExtractive(CustomLLM):
        """Answers the messages of ``rag_assets.generation.prompt`` by quoting from them."""

        def completion(self, *args: Any, **kwargs: Any) -> Any:
            return _fill(kwargs["model_response"], *_answer_messages(kwargs["messages"], embed))

        async def acompletion(self, *args: Any, **kwargs: Any) -> Any:
            return await asyncio.to_thread(self.completion, *args, **kwargs)

        def streaming(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
            yield from _stream(*_answer_messages(kwargs["messages"], embed))

        async def astreaming(  # type: ignore[override]  # LiteLLM iterates over it without awaiting it first
            self, *args: Any, **kwargs: Any
        ) -> AsyncIterator[Any]:
            answer, usage = await asyncio.to_thread(_answer_messages, kwargs["messages"], embed)
            for chunk in _stream(answer, usage):
                yield chunk

    others = [entry for entry in litellm.custom_provider_map if entry["provider"] != PROVIDER]
    litellm.custom_provider_map = [*others, {"provider": PROVIDER, "custom_handler": OfflineExtractive()}]
    free = {"input_cost_per_token": 0.0, "output_cost_per_token": 0.0, "litellm_provider": PROVIDER, "mode": "chat"}
    litellm.register_model({OFFLINE_MODEL: free})


def _answer_messages(messages: Sequence[dict[str, Any]], embed: Embed) -> tuple[str, dict[str, int]]:
    litellm = load_litellm()
    question, passages = parse_messages(messages)
    ranks = [passage.ranks for passage in passages]
    answer = extract_answer(question, [passage.text for passage in passages], embed, ranks).text
    prompt_tokens = litellm.token_counter(model=OFFLINE_MODEL, messages=list(messages))
    completion_tokens = litellm.token_counter(model=OFFLINE_MODEL, text=answer)
    return answer, {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def _fill(response: Any, answer: str, usage: dict[str, int]) -> Any:
    response.choices[0].message.content = answer
    response.choices[0].finish_reason = "stop"
    response.model = OFFLINE_MODEL
    response.usage = load_litellm().Usage(**usage)
    return response


def _stream(answer: str, usage: dict[str, int]) -> Iterator[dict[str, Any]]:
    """LiteLLM's generic chunks, a word each; the last one carries the usage."""
    for piece in re.findall(r"\s*\S+", answer):
        yield {"text": piece, "is_finished": False, "finish_reason": "", "usage": None, "index": 0, "tool_use": None}
    yield {"text": "", "is_finished": True, "finish_reason": "stop", "usage": usage, "index": 0, "tool_use": None}
