"""The white space between neighbouring chunks, looked up in the ledger: chunks are trimmed, so no chunk holds it."""

from collections.abc import Sequence

from rag_assets.models import Hit
from rag_assets.retrieval.context import Gap, open_gaps
from rag_assets.runtime import Runtime

_TEXTS = """
    WITH gap AS MATERIALIZED (
        SELECT * FROM unnest(%(uris)s::text[], %(starts)s::int[], %(ends)s::int[]) AS g(uri, start, stop)
    ), body AS MATERIALIZED (
        SELECT s.uri, (SELECT string_agg(element ->> 1, E'\\n\\n' ORDER BY place)
                       FROM jsonb_array_elements(d.elements) WITH ORDINALITY AS e(element, place)) AS text
        FROM document d JOIN source_file s USING (doc_id)
        WHERE s.collection = %(collection)s AND s.uri IN (SELECT uri FROM gap)
    )
    SELECT uri, start, stop, substr(text, start + 1, stop - start) FROM gap JOIN body USING (uri)
"""


def gaps_between(runtime: Runtime, collection: str, hits: Sequence[Hit]) -> dict[Gap, str]:
    """What stands between hits that follow one another in a document and don't touch; no query where there are none."""
    gaps = open_gaps(hits)
    if not gaps:
        return {}
    uris, starts, ends = zip(*gaps, strict=True)
    with runtime.database.transaction(snapshot=True) as connection:
        rows = connection.execute(
            _TEXTS, {"collection": collection, "uris": list(uris), "starts": list(starts), "ends": list(ends)}
        ).fetchall()
    return {(uri, start, end): text or "" for uri, start, end, text in rows}
