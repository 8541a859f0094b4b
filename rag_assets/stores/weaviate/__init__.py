"""The Weaviate store: a mirror of a generation's rows in PostgreSQL that answers every query.

PostgreSQL keeps what the index shall hold, and which rows the server may have otherwise (``store_outbox``, written in the
transaction of the rows). After the commit those are sent. Whatever fails or dies on the way stays noted, so the next sync,
or one ``reconcile``, makes both equal: convergence, where the store in PostgreSQL is atomic.
"""
