"""Whether a database is what it was, told without reading it, and without the driver that reading it takes.

Whoever writes takes the next number of one sequence of transactions, and holds it until the transaction ends. While the number of the
first one that has not ended stays the same, nothing was written. Subtransactions, and transactions that were undone, count too.
"""

import os
import struct
from pathlib import Path

STATE = """
SELECT system_identifier || '/' || timeline_id || '/' || pg_snapshot_xmax(snapshot),
    current_database() || '/' || pg_is_in_recovery() || '/' || extract(epoch FROM pg_postmaster_start_time())
FROM pg_control_system(), pg_control_checkpoint(), pg_current_snapshot() AS snapshot
WHERE pg_snapshot_xmin(snapshot) = pg_snapshot_xmax(snapshot)
"""
"""(state of the data, of the server). No row: a transaction with a lower number than one that has ended is still writing, and what it
writes would not be told from what there is."""
State = tuple[str, str]
_CONTROL = struct.Struct("=qI4xi20x8xI4x8xQ")
"""Of PostgreSQL 18's ``ControlFileData`` (src/include/catalog/pg_control.h): system_identifier, pg_control_version, state, and of
the last checkpoint ThisTimeLineID and nextXid, all in the machine's own byte order."""
_CONTROL_VERSION = 1800
_SHUT_DOWN = 1
_CONNECT_SECONDS = 2


def asked(url: str) -> State | None:
    """The state a server tells; None: it does not answer, does not tell, or somebody is writing."""
    # It is imported sooner than psycopg 3 is, and is there: Dagster's storage needs it.
    import psycopg2

    try:
        connection = psycopg2.connect(url, connect_timeout=_CONNECT_SECONDS)
    except psycopg2.Error:
        return None
    try:
        with connection.cursor() as cursor:
            cursor.execute(STATE)
            row = cursor.fetchone()
    except psycopg2.Error:
        return None
    finally:
        connection.close()
    return None if row is None else (str(row[0]), str(row[1]))


def of_cluster(data: Path, url: str) -> str | None:
    """The state of an embedded cluster's data, whether its server runs or not; None: it can't be told.

    Raises:
        OSError: there is no cluster in the folder ``data``, or it may not be read.
    """
    if os.path.exists(data / "postmaster.pid"):
        state = asked(url)
        return state[0] if state else None
    with open(data / "global" / "pg_control", "rb") as file:
        content = file.read(_CONTROL.size)
    if len(content) < _CONTROL.size:
        return None
    identifier, version, state_of_server, timeline, transaction = _CONTROL.unpack(content)
    if (version, state_of_server) != (_CONTROL_VERSION, _SHUT_DOWN):
        return None
    return f"{identifier}/{timeline}/{transaction}"
