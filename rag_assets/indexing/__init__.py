"""What the shard and index assets do, one file per asset, without Dagster.

Every stage of a shard reads what is stale under its fingerprint, does that much work, and writes it in one transaction
guarded by the shard's fencing token; run twice, it finds nothing to do.
"""
