"""Partitions: collections are partitions, so adding one changes no code; shards bound their number for any corpus."""

import dagster as dg

from rag_assets.settings import Settings

COLLECTION = "collection"
SHARD = "shard"


def collection_partitions(settings: Settings) -> dg.StaticPartitionsDefinition:
    """One partition per collection: of the index-level assets."""
    return dg.StaticPartitionsDefinition(list(settings.collections))


def shard_partitions(settings: Settings) -> dg.MultiPartitionsDefinition:
    """Collection by shard: of the document-level assets."""
    return dg.MultiPartitionsDefinition(
        {
            COLLECTION: collection_partitions(settings),
            SHARD: dg.StaticPartitionsDefinition([shard_key(shard) for shard in range(settings.sync.shards)]),
        }
    )


def shard_key(shard: int) -> str:
    """A shard as a partition key: two digits, so that keys sort as numbers."""
    return f"{shard:02d}"


def shard_partition_key(collection: str, shard: int) -> dg.MultiPartitionKey:
    """The key of one shard of one collection."""
    return dg.MultiPartitionKey({COLLECTION: collection, SHARD: shard_key(shard)})


def parse_shard_key(context: dg.AssetExecutionContext) -> tuple[str, int]:
    """(collection, shard) of the partition being materialized."""
    key = context.partition_key
    if not isinstance(key, dg.MultiPartitionKey):
        raise TypeError(f"partition key {key!r} has one dimension; collection and shard are needed")
    return key.keys_by_dimension[COLLECTION], int(key.keys_by_dimension[SHARD])
