"""Evaluations in the database: kept with their generation, read back for comparison, trend and report."""

from dataclasses import dataclass
from pathlib import Path

from psycopg.types.json import Jsonb

from rag_assets.database.generations import Generation
from rag_assets.errors import RagAssetsError
from rag_assets.evaluation.result_json import from_json, to_json
from rag_assets.evaluation.results import EvaluationResult
from rag_assets.fingerprint import fingerprint
from rag_assets.runtime import Runtime


def save(
    runtime: Runtime,
    generation: Generation,
    result: EvaluationResult,
    *,
    run_id: int | None = None,
    report: Path | None = None,
    judged_beside: int | None = None,
) -> int:
    """Write an evaluation, or rewrite the one with ``run_id``; returns its id.

    ``judged_beside`` is the id of what was live when it was judged; it is kept when an evaluation is rewritten.
    """
    data = to_json(result, str(report) if report else None)
    with runtime.database.transaction() as connection:
        if run_id is not None:
            connection.execute(
                "UPDATE evaluation_run SET verdict = %s, result = %s, report = %s WHERE id = %s",
                (result.verdict, Jsonb(data), str(report) if report else None, run_id),
            )
            return run_id
        row = connection.execute(
            "INSERT INTO evaluation_run (collection, generation_id, subject_hash, verdict, result, report, judged_beside)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING id",
            (
                generation.collection,
                generation.id,
                subject_hash(result),
                result.verdict,
                Jsonb(data),
                str(report) if report else None,
                judged_beside,
            ),
        ).fetchone()
    assert row is not None
    return int(row[0])


def latest(runtime: Runtime, generation: Generation) -> tuple[int, EvaluationResult]:
    """The last evaluation of a generation, with its id.

    Raises:
        RagAssetsError: it was never evaluated.
    """
    found = latest_or_none(runtime, generation)
    if found is None:
        raise RagAssetsError(f"{generation.name} was never evaluated. Materialize `retrieval_evaluation` first.")
    return found


def latest_or_none(runtime: Runtime, generation: Generation) -> tuple[int, EvaluationResult] | None:
    """The last evaluation of a generation, with its id; None when it was never evaluated.

    One that was made aside, with questions of anybody's choice, does not count: promotion rests on this.
    """
    with runtime.database.transaction() as connection:
        row = connection.execute(
            "SELECT id, result FROM evaluation_run WHERE generation_id = %s"
            " AND result ->> 'aside' IS DISTINCT FROM 'true' ORDER BY id DESC LIMIT 1",
            (generation.id,),
        ).fetchone()
    return (int(row[0]), from_json(row[1])) if row else None


def latest_report(runtime: Runtime, collection: str) -> str | None:
    """Path of the newest report of a collection, of those that were not made aside."""
    with runtime.database.transaction() as connection:
        row = connection.execute(
            "SELECT report FROM evaluation_run WHERE collection = %s AND report IS NOT NULL"
            " AND result ->> 'aside' IS DISTINCT FROM 'true' ORDER BY id DESC LIMIT 1",
            (collection,),
        ).fetchone()
    return row[0] if row else None


@dataclass(frozen=True, slots=True)
class StoredReport:
    """A report, as it is listed."""

    folder: str
    """``<sequence>-<evaluation>``, under the collection's reports."""
    generation: str
    live: bool
    verdict: str
    created_at: str
    ndcg: float | None


def reports(runtime: Runtime, collection: str, limit: int = 200) -> list[StoredReport]:
    """The reports of a collection whose files are there, newest first."""
    with runtime.database.transaction(snapshot=True) as connection:
        rows = connection.execute(
            """
            SELECT e.report, e.result ->> 'generation', coalesce(g.state = 'live', false), e.verdict, e.result ->> 'created_at',
                   (e.result -> 'retrieval' -> 'ndcg@10' ->> 'value')::float
            FROM evaluation_run e LEFT JOIN generation g ON g.id = e.generation_id
            WHERE e.collection = %s AND e.report IS NOT NULL ORDER BY e.id DESC LIMIT %s
            """,
            (collection, limit),
        ).fetchall()
    return [StoredReport(Path(row[0]).parent.name, *row[1:]) for row in rows if Path(row[0]).is_file()]


def comparable(
    runtime: Runtime, generation: Generation, result: EvaluationResult, *, before: int | None = None
) -> EvaluationResult | None:
    """The evaluation to compare with: the newest of the collection with the same questions that reached a verdict.

    For a generation that is not live that is the live one's; for the live one, its own or its predecessor's last. Only those
    with an id below ``before``, if it is given.
    """
    with runtime.database.transaction() as connection:
        row = connection.execute(
            """
            SELECT e.result FROM evaluation_run e JOIN generation g ON g.id = e.generation_id
            WHERE e.collection = %s AND e.verdict IN ('pass', 'fail') AND e.result -> 'fingerprint' ->> 'questions' = %s
              AND g.state = ANY(%s) AND e.id < coalesce(%s, e.id + 1) AND e.result ->> 'aside' IS DISTINCT FROM 'true'
            ORDER BY e.id DESC LIMIT 1
            """,
            (
                generation.collection,
                result.fingerprint.get("questions"),
                # Never one that was refused or is being built: it answered nobody.
                ["live", "retired"] if generation.is_live else ["live"],
                before,
            ),
        ).fetchone()
    return from_json(row[0]) if row else None


def history(runtime: Runtime, result: EvaluationResult, limit: int) -> list[EvaluationResult]:
    """The last ``limit`` finished evaluations of the collection with the same questions, oldest first."""
    with runtime.database.transaction() as connection:
        rows = connection.execute(
            "SELECT result FROM evaluation_run WHERE collection = %s"
            " AND result -> 'fingerprint' ->> 'questions' = %s AND result ->> 'aside' IS DISTINCT FROM 'true' ORDER BY id DESC LIMIT %s",
            (result.collection, result.fingerprint.get("questions"), limit),
        ).fetchall()
    return [from_json(row[0]) for row in reversed(rows)]


def judged_beside(runtime: Runtime, run_id: int) -> int | None:
    """The id of the generation that was live when an evaluation was made; None: nothing was."""
    with runtime.database.transaction() as connection:
        row = connection.execute("SELECT judged_beside FROM evaluation_run WHERE id = %s", (run_id,)).fetchone()
    return row[0] if row else None


def subject_hash(result: EvaluationResult) -> str:
    """Hash of everything the scores depend on: equal hashes, equal scores."""
    return fingerprint(dict(result.fingerprint))
