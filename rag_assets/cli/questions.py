"""``search``, ``ask`` and ``evaluate``: what the index is for."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from rag_assets.cli.comparison import HELP as COMPARE_HELP
from rag_assets.cli.comparison import compare_chunking
from rag_assets.cli.main import common, common_of_several, fail, main, reporting, working
from rag_assets.cli.output import emit, excerpt

filter_option = click.option(
    "--filter",
    "filters",
    multiple=True,
    metavar="FILTER",
    help="Only passages with this metadata: type=pdf, type=pdf,docx, type!=pdf, page>=3, date<2024-06, document^=guides/. "
    "Quote it for the shell; repeat it for more conditions.",
)


@main.command()
@common_of_several
@click.argument("question")
@click.option("-k", "--k", default=5, show_default=True, help="Number of hits.")
@filter_option
@click.option("--mode", type=click.Choice(["dense", "lexical", "hybrid"]), help="How hits are found (default: as set).")
@click.option("--rerank", metavar="NAME", help="none, late-interaction, cross-encoder:NAME or litellm:NAME.")
@click.option("--diverse", is_flag=True, help="No near-duplicates, few passages of one document.")
def search(
    source: Path | str | None,
    collections: tuple[str, ...],
    everywhere: bool,
    as_json: bool,
    question: str,
    k: int,
    filters: tuple[str, ...],
    mode: str | None,
    rerank: str | None,
    diverse: bool,
) -> None:
    """Find the passages nearest to QUESTION, in one collection or in several as if they were one."""
    first = collections[0] if collections else None
    with reporting(as_json), working(source, first, as_json=as_json) as (runtime, name, _):
        from rag_assets.retrieval.filters import parse_filters

        asked = (("mode", mode), ("rerank", rerank), ("diversity", diverse or None))
        chosen = {key: value for key, value in asked if value is not None}
        retrieval = runtime.settings.retrieval_of(name).model_copy(update=chosen)
        parsed = parse_filters(filters)
        found: Any
        if everywhere or len(collections) > 1:
            from rag_assets.retrieval.together import live_collections, search_together

            names = live_collections(runtime) if everywhere else collections
            found = search_together(runtime, question, names, k=k, filters=parsed, overrides=chosen)
            made = {one: result.generation.name for one, result in found.found.items()}
            plans = {one: asdict(result.plan) for one, result in found.found.items() if result.plan} or None
        else:
            from rag_assets.retrieval.search import search as find

            found = find(runtime, question, collection=name, k=k, filters=parsed, retrieval=retrieval)
            made = {name: found.generation.name}
            plans = asdict(found.plan) if found.plan else None
        if as_json:
            emit(
                {
                    "hits": [_hit_json(hit) for hit in found.hits],
                    "generation": ", ".join(made.values()),
                    "generations": made,
                    "mode": retrieval.mode,
                    "reranked": found.reranked,
                    "filter_plan": plans,
                    "milliseconds": {stage: round(value, 2) for stage, value in found.milliseconds.items()},
                }
            )
            return
        _print_hits(found, several=len(made) > 1)
        if not found.hits:
            click.echo("Nothing found." + (" No passage has that metadata." if filters else ""))
        if retrieval.rerank != "none" and not found.reranked and found.hits:
            click.echo("The reranker ran out of time (retrieval.rerank_seconds); the order before it stands.")
        # One command embeds one question, so nearly all of its time is starting the model.
        spent = found.milliseconds
        click.echo(
            f"({', '.join(made.values())}, model and question {spent['embedding']:.0f} ms, index {spent['retrieval']:.0f} ms)"
        )


def _hit_json(hit: Any) -> dict[str, Any]:
    return {
        "rank": hit.rank,
        "collection": hit.collection,
        "document": hit.document,
        "chunk_id": hit.chunk_id,
        "text": hit.text,
        "scores": dict(hit.scores),
        "ranks": dict(hit.ranks),
        "metadata": dict(hit.metadata),
        "duplicates": list(hit.duplicates),
    }


def _print_hits(found: Any, *, several: bool) -> None:
    for hit in found.hits:
        place = " › ".join(hit.metadata.get("headings") or ())
        parts = ", ".join(f"{part} {score:.3f}" for part, score in hit.scores.items() if score is not None)
        whose = f"{hit.collection}: " if several else ""
        click.echo(f"{hit.rank:>2}. {whose}{hit.document}{'  ' + place if place else ''}  ({parts})")
        click.echo(f"    {excerpt(hit.text)}")
        if hit.duplicates:
            click.echo(f"    the same in {', '.join(hit.duplicates)}")


@main.command()
@common
@click.argument("question")
@filter_option
def ask(
    source: Path | str | None, collection: str | None, as_json: bool, question: str, filters: tuple[str, ...]
) -> None:
    """Answer QUESTION from the documents, with citations."""
    with reporting(as_json), working(source, collection, as_json=as_json) as (runtime, name, _):
        from rag_assets.generation.asking import Asker
        from rag_assets.retrieval.filters import parse_filters
        from rag_assets.retrieval.passages import live_generation

        live_generation(runtime, name)
        asked = Asker(runtime).ask(question, collection=name, filters=parse_filters(filters))
        if as_json:
            emit(answer_json(asked))
        else:
            print_answer(asked)


def answer_json(asked: Any) -> dict[str, Any]:
    """An answer in the shape scripts rely on."""
    given = asked.answer
    return {
        "answer": given.text,
        "citations": [{"document": c.document, "chunk_id": c.chunk_id, "quote": c.quote} for c in given.citations],
        "context": {
            "passages": [
                {
                    "number": number,
                    "document": passage.document,
                    "chunk_ids": [hit.chunk_id for hit in passage.hits],
                    "start": passage.start,
                    "end": passage.end,
                    "duplicates": passage.duplicates,
                }
                for number, passage in enumerate(given.context.passages, start=1)
            ],
            "left_out": [{"document": hit.document, "chunk_id": hit.chunk_id} for hit in given.context.left_out],
            "tokens": {"used": given.context.used, "allowed": given.context.budget},
        },
        "supported": given.supported,
        "model": given.model,
        "generation": asked.generation.name,
        "tokens": {"prompt": given.prompt_tokens, "completion": given.completion_tokens},
        "cost_usd": given.cost_usd,
        "milliseconds": {stage: round(value, 2) for stage, value in asked.milliseconds.items()},
    }


def print_answer(asked: Any) -> None:
    """An answer and where it comes from."""
    given = asked.answer
    click.echo(given.text)
    for number, passage in enumerate(given.context.passages, start=1):
        ids = {hit.chunk_id for hit in passage.hits}
        quotes = [citation.quote for citation in given.citations if citation.chunk_id in ids]
        if quotes:
            also = f" (the same in {', '.join(passage.duplicates)})" if passage.duplicates else ""
            click.echo(f"  [{number}] {passage.document}: “{excerpt(quotes[0], 120)}”{also}")
    if given.context.left_out:
        names = ", ".join(dict.fromkeys(hit.document for hit in given.context.left_out))
        click.echo(f"  did not fit answers.context_tokens = {given.context.budget}: {names}")
    click.echo(f"  ({given.model}, {asked.generation.name}, {asked.milliseconds['total']:.0f} ms)")


questions_option = click.option(
    "--questions", type=click.Path(path_type=Path), help="Question file (JSON Lines); default: the collection's."
)


def golden_questions(runtime: Any, collection: str, file: Path | None) -> Path:
    """The question file named, or that of the collection. Raises ConfigurationError if there is neither."""
    from rag_assets.errors import ConfigurationError

    found: Path | None = file or runtime.settings.collection(collection).questions
    if found is None:
        raise ConfigurationError(
            f"Collection {collection!r} has no golden questions. Pass --questions FILE, or set "
            f"collections.{collection}.questions in rag_assets.toml. One question a line: "
            '{"id": "1", "question": "…", "relevant": [{"document": "path", "quote": "exact words"}]}'
        )
    return found


@main.command()
@common
@questions_option
@click.option(
    "--generation", metavar="NAME", help="Measure this retained generation (see `status`) instead of the live one."
)
@click.option(
    "--save-baseline",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Keep this evaluation's scores as what later ones are compared with (`baseline` of the collection).",
)
@click.option("--compare", "compared", metavar="chunking=…", help=COMPARE_HELP)
def evaluate(
    source: Path | str | None,
    collection: str | None,
    as_json: bool,
    questions: Path | None,
    generation: str | None,
    save_baseline: Path | None,
    compared: str | None,
) -> None:
    """Measure the live index, or any retained one, with golden questions and write a report; or compare ways to cut the documents.

    Exit code 0: pass, 3: fail or inconclusive. A comparison has no verdict.
    """
    with reporting(as_json), working(source, collection, as_json=as_json) as (runtime, name, bars):
        from rag_assets.errors import ConfigurationError
        from rag_assets.evaluation import baseline
        from rag_assets.evaluation.publishing import evaluate_generation
        from rag_assets.evaluation.result_json import to_json
        from rag_assets.evaluation.retained import retained_generation
        from rag_assets.retrieval.passages import live_generation

        if generation is not None and compared is not None:
            raise ConfigurationError(
                "--generation and --compare exclude each other: ways to cut are compared on the present documents."
            )
        file = golden_questions(runtime, name, questions)
        if compared is not None:
            compare_chunking(runtime, name, file, compared, bars, as_json=as_json)
            return
        command = f"rag-assets evaluate --collection {name} --questions {file}"
        if generation is None:
            chosen = live_generation(runtime, name)
        else:
            chosen = retained_generation(runtime, name, generation)
            command += f" --generation {chosen.name}"
        result, path = evaluate_generation(runtime, chosen, file, command=command)
        if save_baseline:
            baseline.save_baseline(result, save_baseline)
        bars.__exit__(None, None, None)
        if as_json:
            emit(to_json(result, str(path)))
        else:
            print_evaluation(result, path)
        if result.verdict != "pass":
            fail(f"verdict {result.verdict}: {' '.join(result.reasons)}", 3, False)


def print_evaluation(result: Any, path: Path | str) -> None:
    """The verdict and the figures people ask for."""
    click.echo(f"{result.verdict.upper()}  {result.generation}, {len(result.questions)} questions")
    headline = ("ndcg@10", "recall@10", "mrr@10", "evidence_recall@5", "context_evidence_recall")
    judged = ("faithfulness", "answer_relevancy", "factual_correctness", "context_precision", "context_recall")
    answers = ("answer_contained", "token_f1", "citation_correctness", "abstention_correct", *judged)
    for names, scores in ((headline, result.retrieval), (answers, result.answers)):
        for name in names:
            score = scores.get(name)
            if score is not None and score.value is not None:
                interval = f"  [{score.low:.3f} – {score.high:.3f}]" if score.low is not None else ""
                click.echo(f"  {name:<24}{score.value:.3f}{interval}  n = {score.n_valid} of {score.n_total}")
    if "search" in result.latency:
        click.echo(f"  {'search p95':<24}{result.latency['search'].p95:.0f} ms")
    click.echo(f"  report: {path}")
