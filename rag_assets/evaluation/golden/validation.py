"""When a draft is worth a person's time, and when it may become a golden question."""

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from rag_assets.evaluation.golden.asking import Proposal, Unusable
from rag_assets.evaluation.golden.duplicates import NEAR, asked_as
from rag_assets.evaluation.golden.passages import Passage
from rag_assets.evaluation.golden.questions import Question, normalise_quote, quote_in, resolve_labels
from rag_assets.evaluation.golden.wording import COPIED_WORDS, LEAST_WORDS, copied_run, length, stands_in, words_of
from rag_assets.models import Vectors
from rag_assets.settings import LexicalSettings
from rag_assets.stores.analysis import analyzer, detect, split_words

MOST_WORDS = 40
"""Nobody types a longer question into a search box."""
SUPPORTED = 0.7
"""Share of the answer's terms (stemmed, without stop words) that must stand in the quote."""
_SELF_REFERENCE = re.compile(
    r"\b(?:this|the (?:given|above|following|provided)) (?:passage|text|excerpt|document|section)\b|\bthe passage\b",
    re.IGNORECASE,
)


def check_proposal(proposal: Proposal, passage: Passage, text: str) -> None:
    """Does the proposal hold by itself?

    Args:
        proposal: as the model made it.
        passage: what it was shown.
        text: the whole document's.

    Raises:
        Unusable: it does not; says why.
    """
    words = length(words_of(proposal.question))
    if not quote_in(proposal.quote, text):
        raise Unusable("the quote is not in the document")
    if not is_supported(proposal.answer, proposal.quote):
        raise Unusable("the quote does not support the answer")
    if words < LEAST_WORDS:
        raise Unusable(f"the question has fewer than {LEAST_WORDS} words")
    if words > MOST_WORDS:
        raise Unusable(f"the question has more than {MOST_WORDS} words")
    if _SELF_REFERENCE.search(proposal.question):
        raise Unusable("the question speaks of the passage, and is not understood without it")
    if stands_in(proposal.answer, proposal.question):
        raise Unusable("the answer stands in the question")
    if stands_in(proposal.question, text):
        raise Unusable("the question stands in the document")
    if copied_run(proposal.question, passage.text) or copied_run(proposal.question, proposal.quote):
        raise Unusable(f"the question copies {COPIED_WORDS} words or more in a row")


def is_supported(answer: str, quote: str) -> bool:
    """Whether the quote holds the answer: its words, or most of its terms and every figure of it."""
    if stands_in(answer, quote):
        return True
    figures = {word for word in words_of(answer) if any(map(str.isdigit, word))}
    if not figures <= set(words_of(quote)):
        return False
    analysis = analyzer(LexicalSettings())
    there = analysis.analyze(quote)
    # The few words of an answer tell no language: it is taken to be in that of its quote.
    terms = set(analysis.analyze_query(answer, {detect(split_words(quote)): 1}))
    return bool(terms) and len(terms & set(there.terms)) >= SUPPORTED * len(terms)


class Known:
    """The questions there are, drafts included: a new one must be none of them."""

    def __init__(self, questions: Sequence[Question], vectors: Vectors) -> None:
        """``vectors`` are of the questions' texts, in their order."""
        self._asked = {asked_as(question)[0] for question in questions}
        self._vectors = [vectors] if len(vectors) else []

    def add(self, question: str, vector: Vectors) -> None:
        """Take in a question with its vector, of shape (1, dimension).

        Raises:
            Unusable: it is known, or nearly.
        """
        words = normalise_quote(question)
        if words in self._asked:
            raise Unusable("it is asked already")
        if any(float(np.max(known @ vector[0])) >= NEAR for known in self._vectors):
            raise Unusable(f"nearly the same is asked already (cosine ≥ {NEAR})")
        self._asked.add(words)
        self._vectors.append(vector)


def refusal(question: Question, known: Iterable[Question], texts: Mapping[str, str]) -> str | None:
    """Why a draft, as a person may have changed it, can't become a golden question; None: it can.

    Args:
        question: the draft.
        known: the golden questions there are.
        texts: the text of every labelled document of the collection, by uri.
    """
    for invalid in resolve_labels([question], texts).invalid:
        return f"{invalid.document}: {invalid.reason}"
    for other in known:
        if other.id == question.id:
            return "another question has this id"
        if asked_as(other) == asked_as(question):
            return f"{other.id} asks the same"
    if question.answer is not None and stands_in(question.answer, question.question):
        return "the answer stands in the question"
    return None
