"""A realistic evaluation, computed from invented searches by the same functions a real one uses."""

import random
from dataclasses import replace
from functools import cache

from rag_assets.evaluation.golden.questions import InvalidLabel, Label, Question
from rag_assets.evaluation.latency import (
    AnnRecall,
    ClosedLevel,
    ColdStart,
    FoundQuality,
    GenerationSpeed,
    LatencyBenchmark,
    LatencySummary,
    OpenLevel,
    summarise_latency,
)
from rag_assets.evaluation.metrics.answers import score_answer
from rag_assets.evaluation.metrics.retrieval import score_question
from rag_assets.evaluation.metrics.statistics import paired_difference, summarise_metrics
from rag_assets.evaluation.results import (
    Check,
    Citation,
    EvaluationResult,
    HistoryPoint,
    PreviousEvaluation,
    QuestionResult,
    RetrievedPassage,
    score_slices,
)
from rag_assets.models import Hit

_TOPICS = (
    ("handbook/leave/parental-leave.md", "Parents may take up to 26 weeks of paid leave within two years of a birth."),
    ("handbook/travel/expenses.docx", "Receipts above 25 EUR must be uploaded within 30 days of the end of the trip."),
    (
        "policies/security/passwords.pdf",
        "Passwords are at least 14 characters long and are never reused across systems.",
    ),
    ("policies/security/incident-response.pdf", "An incident is reported to the duty officer within 15 minutes."),
    ("products/atlas/release-notes-4.2.html", "Version 4.2 raises the upload limit from 100 MB to 2 GB per file."),
    ("products/atlas/api-limits.md", "A token may send 600 requests per minute; further requests receive status 429."),
    ("meetings/2026-09-14.eml", "The board approved the budget of 1.8 million EUR for the second data centre."),
    ("onboarding/first-week.pptx", "On the first day every newcomer meets a mentor from another team at 10 o'clock."),
)
_KINDS = ("fact", "how-to", "multi-hop")


def hit(rank: int, document: str, text: str = "", cosine: float = 0.5) -> Hit:
    """A search result of which only rank, document and text matter."""
    return Hit(rank, document, f"chunk-{document}-{rank}", text, {"dense": cosine}, {})


def question_result(number: int, generator: random.Random, quality: float) -> QuestionResult:
    """One invented question, searched by an engine that finds the right document first with probability ``quality``."""
    document, text = _TOPICS[number % len(_TOPICS)]
    gold = text.split(" ", 4)[-1].rstrip(".")
    question = Question(f"q{number:03}", f"What does the team say about case {number}?", gold, (Label(document, text),))
    others = generator.sample([topic for topic in _TOPICS if topic[0] != document], 7)
    found_at = 0 if generator.random() < quality else generator.randrange(1, 12)
    ranked = [*others[:found_at], (document, text), *others[found_at:]] if found_at < 8 else others
    hits = [hit(rank, *topic, cosine=0.82 - 0.05 * rank) for rank, topic in enumerate(ranked, start=1)]
    best = hits[0]
    citations = (Citation(best.document, best.chunk_id, best.text),)
    passages = {item.chunk_id: item.text for item in hits}
    search = generator.lognormvariate(3.2, 0.35)
    embedding, generation = search * 0.6, generator.lognormvariate(5.6, 0.3)
    return QuestionResult(
        id=question.id,
        question=question.question,
        kind=_KINDS[number % len(_KINDS)],
        relevant=question.relevant,
        scores=score_question(question, hits),
        retrieved=tuple(
            RetrievedPassage(
                item.rank, item.document, item.chunk_id, item.text, item.scores["dense"], item.document == document
            )
            for item in hits[:5]
        ),
        answer=best.text,
        gold_answer=gold,
        citations=citations,
        answer_scores=score_answer(question, best.text, citations=citations, passages=passages),
        milliseconds={
            "embedding": embedding,
            "retrieval": search - embedding,
            "search": search,
            "generation": generation,
            "total": search + generation,
        },
    )


def realistic_benchmark(error: str = "The model replied too late.") -> LatencyBenchmark:
    """Invented figures of a small machine, with something failed in every phase."""

    def summary(milliseconds: float) -> LatencySummary:
        return LatencySummary(80, milliseconds, 2 * milliseconds, 3 * milliseconds, 4 * milliseconds)

    quality = FoundQuality(0.991, 80, 0.95, 0.87, 78)
    return LatencyBenchmark(
        queries=100,
        query_source="golden questions",
        seconds=2.0,
        warm_up_seconds=0.5,
        pool_size=10,
        stages={"search": summary(12.0), "embedding": summary(7.0)},
        quality=quality,
        ann_recall=AnnRecall(60, 0.987, 0.9, 0.8),
        cold=ColdStart("connection", {"search": summary(31.0)}),
        closed=(
            ClosedLevel(1, 160, 0, None, 80.0, summary(12.0), quality),
            ClosedLevel(4, 240, 2, error, 120.0, summary(30.0), quality),
            ClosedLevel(8, 0, 9, error, 0.0, None),
        ),
        open=(OpenLevel(96.0, 95.5, 190, 1, error, 3, summary(40.0), summary(25.0), quality),),
        answers=GenerationSpeed(error, 5, 1, error, {"first_token": summary(400.0)}, 55.5, 43.2),
        took_seconds=17.0,
        errors={"cold": 1},
    )


@cache
def realistic_result(questions: int = 120, quality: float = 0.7, seed: int = 1) -> EvaluationResult:
    """A passing evaluation with a previous one, a trend, slices, invalid labels and one question that failed."""
    results = [question_result(number, random.Random(f"{seed} {number}"), quality) for number in range(questions)]
    before = [question_result(number, random.Random(f"{seed} {number}"), quality - 0.15) for number in range(questions)]
    results[3] = replace(
        results[3],
        answer=None,
        answer_scores=dict.fromkeys(results[3].answer_scores),
        error="The answer model did not reply within 30 s.",
    )
    retrieval = summarise_metrics([item.scores for item in results])
    answers = summarise_metrics([item.answer_scores for item in results])
    latency = {
        stage: summarise_latency([item.milliseconds[stage] for item in results]) for stage in results[0].milliseconds
    }
    differences = {
        name: paired_difference(
            {item.id: {**item.scores, **item.answer_scores}.get(name) for item in results},
            {item.id: {**item.scores, **item.answer_scores}.get(name) for item in before},
        )
        for name in (*retrieval, *answers)
    }
    return EvaluationResult(
        collection="handbook",
        generation="handbook-0007",
        created_at="2026-11-21T03:14:15+00:00",
        command="rag-assets evaluate --collection handbook --questions evals/handbook.jsonl",
        verdict="pass",
        reasons=(
            "Every floor and every budget is met.",
            "nDCG@10 is better than that of the live generation, beyond noise.",
        ),
        fingerprint={
            "corpus": "0b5e7c1f4a3d2e1908f7a6b5c4d3e2f1",
            "questions": "77aa0c6f8f2b4d5e9c1d3e5f7a9b8c7d",
            "chunker": {"strategy": "recursive", "max_tokens": 256, "overlap_tokens": 32},
            "embedder": "all-MiniLM-L6-v2 (float32)",
            "index": {"m": 16, "ef_construction": 64, "ef_search": 100},
            "answer_model": "offline-extractive",
            "libraries": {"torch": "2.13.0", "sentence-transformers": "6.2.0", "pgvector": "0.8.5"},
        },
        questions=tuple(results),
        retrieval=retrieval,
        answers=answers,
        by_slice=score_slices(results),
        latency=latency,
        ann_recall=AnnRecall(questions, 0.9923, 0.9, 0.7),
        checks=(
            Check("ann_recall_mean", True, 0.9923, 0.95, "The index finds what exact search finds (mean recall@10)."),
            Check("ann_recall_p05", True, 0.9, 0.8, "… and for the worst twentieth of the questions as well."),
            Check("ndcg_drop", True, -0.09, 0.02, "nDCG@10 has not dropped against the live generation."),
            Check("search_p95_seconds", True, latency["search"].p95 / 1000, 1.0, "Searches are fast enough (p95)."),
            Check("answers_measured", None, None, None, "No language model is configured, so answers are extracts."),
        ),
        invalid_labels=(
            InvalidLabel("q041", "handbook/leave/sabbatical.md", None, "the document is not in the collection"),
            InvalidLabel("q066", _TOPICS[2][0], "at least 12 characters", "the quote does not occur in the document"),
        ),
        previous=PreviousEvaluation(
            generation="handbook-0006",
            created_at="2026-11-20T03:12:44+00:00",
            retrieval=summarise_metrics([item.scores for item in before]),
            answers=summarise_metrics([item.answer_scores for item in before]),
            latency={stage: replace(value, p95=value.p95 * 1.12) for stage, value in latency.items()},
            differences=differences,
        ),
        history=tuple(
            HistoryPoint(f"2026-11-{day:02}T03:00:00+00:00", f"handbook-{day:04}", 0.7 + day / 300, 60 - day)
            for day in range(9, 22)
        ),
        benchmark=realistic_benchmark(),
    )
