"""PostgreSQL: the embedded server, the connection pool, numbered migrations, and the ledger."""
