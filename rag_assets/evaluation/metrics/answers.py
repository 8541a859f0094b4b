"""Reference metrics of one answer: no model judges, so the same answer always scores the same. Pure functions."""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence

from rag_assets.evaluation.golden.questions import Question, quote_in
from rag_assets.evaluation.results import Citation

LONGEST_FACT_TOKENS = 20
"""A longer gold answer is an explanation nobody repeats word for word: containment and exact match don't apply."""

_ARTICLES = re.compile(r"\b(a|an|the)\b")
# Scripts written without spaces: every character is a token, as in the MLQA evaluation (Lewis et al. 2020).
_UNSPACED = re.compile(r"([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])")


def normalise_answer(text: str, *, punctuation: str = "") -> str:
    """SQuAD normalisation (Rajpurkar et al. 2016): lower case, no punctuation, no articles, single spaces.

    Punctuation of every script is replaced by ``punctuation`` (SQuAD knows only ASCII), and Chinese and Japanese
    characters become tokens of their own (SQuAD is English).
    """
    lowered = unicodedata.normalize("NFKC", text).lower()
    kept = "".join(punctuation if _is_punctuation(character) else character for character in lowered)
    return " ".join(_UNSPACED.sub(r" \1 ", _ARTICLES.sub(" ", kept)).split())


def exact_match(answer: str, gold: str) -> float:
    """1 if both are equal after normalisation, else 0 (Rajpurkar et al. 2016)."""
    return float(normalise_answer(answer) == normalise_answer(gold))


def token_f1(answer: str, gold: str) -> float:
    """Harmonic mean of precision and recall of the answer's tokens, as bags (Rajpurkar et al. 2016).

    If either side has no token, 1 if both have none, else 0.
    """
    answer_tokens, gold_tokens = normalise_answer(answer).split(), normalise_answer(gold).split()
    if not answer_tokens or not gold_tokens:
        return float(answer_tokens == gold_tokens)
    shared = sum((Counter(answer_tokens) & Counter(gold_tokens)).values())
    return 2 * shared / (len(answer_tokens) + len(gold_tokens))


def answer_contains(answer: str, gold: str) -> float | None:
    """1 if the gold answer stands in the answer as whole words, after normalisation, else 0.

    Hyphens and slashes may join words or part them, so both readings count. None if nothing of the gold answer is left
    after normalisation (it would be contained in everything).
    """
    if not normalise_answer(gold):
        return None
    return float(
        any(
            f" {normalise_answer(gold, punctuation=mark)} " in f" {normalise_answer(answer, punctuation=mark)} "
            for mark in ("", " ")
        )
    )


def citation_correctness(citations: Sequence[Citation], grades: Mapping[str, float]) -> float:
    """Share of citations whose document is relevant; 0 without citations, for nothing then shows where it is from."""
    return _share([grades.get(citation.document, 0) > 0 for citation in citations])


def citation_support(citations: Sequence[Citation], passages: Mapping[str, str]) -> float:
    """Share of citations whose quote really occurs in the passage cited; 0 without citations.

    ``passages`` maps the ids of the chunks the answer was given to their texts: citing anything else is not supported.
    """
    return _share([quote_in(citation.quote, passages.get(citation.chunk_id, "")) for citation in citations])


def score_answer(
    question: Question,
    answer: str | None,
    *,
    abstained: bool = False,
    citations: Sequence[Citation] = (),
    passages: Mapping[str, str] | None = None,
) -> dict[str, float | None]:
    """Every metric that applies to one answer.

    - ``answer_contained``, ``exact_match``, ``token_f1``: the question has a gold answer (the first two: a short one).
      An abstention scores 0.
    - ``citation_correctness``, ``citation_support``: the question is answerable and an answer was given.
    - ``answered`` (answerable) or ``abstention_correct`` (unanswerable): 1 if it rightly answered, or rightly did not.

    Args:
        question: with valid labels only; ``relevant`` empty means unanswerable.
        answer: None if answering failed: every metric that applies is then None, which is unmeasured.
        abstained: the system said that it can't answer; ``answer`` is then not read.
        citations: of the answer.
        passages: texts by chunk id of what the answer was given.
    """
    scores: dict[str, float | None] = {}
    attempt = "" if abstained or answer is None else answer
    if not question.relevant:
        scores["abstention_correct"] = float(abstained)
    else:
        scores["answered"] = float(not abstained)
        if question.answer:
            scores |= _against_gold(attempt, question.answer)
        if not abstained:
            scores["citation_correctness"] = citation_correctness(citations, question.grades)
            scores["citation_support"] = citation_support(citations, passages or {})
    return dict.fromkeys(scores) if answer is None and not abstained else scores


def _against_gold(answer: str, gold: str) -> dict[str, float | None]:
    scores: dict[str, float | None] = {"token_f1": token_f1(answer, gold)}
    if 0 < len(normalise_answer(gold).split()) <= LONGEST_FACT_TOKENS:
        scores["answer_contained"] = answer_contains(answer, gold)
        scores["exact_match"] = exact_match(answer, gold)
    return scores


def _is_punctuation(character: str) -> bool:
    return character in string.punctuation or unicodedata.category(character).startswith("P")


def _share(verdicts: Sequence[bool]) -> float:
    return sum(verdicts) / len(verdicts) if verdicts else 0.0
