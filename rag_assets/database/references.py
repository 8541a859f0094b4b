"""Reference vectors of served models, kept beside the vectors they vouch for."""

from collections.abc import Callable

import numpy as np

from rag_assets.database.pool import Database
from rag_assets.embedding.canaries import Reference


class StoredReferences:
    """The table ``embedder_reference``; the database is opened when it is first asked."""

    def __init__(self, database: Callable[[], Database]) -> None:
        self._database = database

    def find(self, fingerprint: str) -> Reference | None:
        """The reference of a model, if one was ever kept."""
        with self._database().transaction() as connection:
            rows = connection.execute(
                "SELECT text, vector FROM embedder_reference WHERE embedder_fp = %s ORDER BY position", (fingerprint,)
            ).fetchall()
        if not rows:
            return None
        return Reference(tuple(row[0] for row in rows), np.stack([row[1].to_numpy() for row in rows]))

    def keep(self, fingerprint: str, reference: Reference) -> Reference:
        """Keep a reference unless there is one; returns the one that is kept."""
        with self._database().transaction() as connection:
            connection.cursor().executemany(
                "INSERT INTO embedder_reference VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
                [
                    (fingerprint, position, text, vector)
                    for position, (text, vector) in enumerate(zip(reference.texts, reference.vectors, strict=True))
                ],
            )
        return self.find(fingerprint) or reference
