"""What the fake holds: collections with their schemas and objects, filters and searches over them, all exact."""

import copy
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from weaviate.proto.v1 import base_pb2

Operator = base_pb2.Filters.Operator

HNSW: Mapping[str, Any] = {
    "skip": False,
    "cleanupIntervalSeconds": 300,
    "maxConnections": 32,
    "efConstruction": 128,
    "ef": -1,
    "dynamicEfMin": 100,
    "dynamicEfMax": 500,
    "dynamicEfFactor": 8,
    "vectorCacheMaxObjects": 1_000_000_000_000,
    "flatSearchCutoff": 40_000,
    "distance": "cosine",
    "filterStrategy": "sweeping",
    "skipDefaultQuantization": False,
    "trackDefaultQuantization": False,
    "pq": {
        "enabled": False,
        "bitCompression": False,
        "segments": 0,
        "centroids": 256,
        "trainingLimit": 100_000,
        "encoder": {"type": "kmeans", "distribution": "log-normal"},
    },
    "bq": {"enabled": False},
    "sq": {"enabled": False, "trainingLimit": 100_000, "rescoreLimit": 20},
    "rq": {"enabled": False, "bits": 8, "rescoreLimit": 20},
    "multivector": {
        "enabled": False,
        "aggregation": "maxSim",
        "muvera": {"enabled": False, "ksim": 4, "dprojections": 16, "repetitions": 10},
    },
}
CLASS: Mapping[str, Any] = {
    "invertedIndexConfig": {
        "bm25": {"b": 0.75, "k1": 1.2},
        "cleanupIntervalSeconds": 60,
        "stopwords": {"additions": None, "preset": "en", "removals": None},
        "usingBlockMaxWAND": True,
    },
    "multiTenancyConfig": {"enabled": False, "autoTenantCreation": False, "autoTenantActivation": False},
    "replicationConfig": {"asyncEnabled": False, "deletionStrategy": "TimeBasedResolution", "factor": 1},
    "shardingConfig": {
        "actualCount": 1,
        "actualVirtualCount": 128,
        "desiredCount": 1,
        "desiredVirtualCount": 128,
        "function": "murmur3",
        "key": "_id",
        "strategy": "hash",
        "virtualPerPhysical": 128,
    },
}


@dataclass
class Stored:
    """One object."""

    uuid: str
    properties: dict[str, Any]
    vector: npt.NDArray[np.float32] | None


@dataclass
class FakeCollection:
    """A class: its schema, and its objects by tenant ("" without tenants) and id."""

    schema: dict[str, Any]
    tenants: dict[str, dict[str, Stored]] = field(default_factory=dict)

    @property
    def is_multi_tenant(self) -> bool:
        return bool(self.schema["multiTenancyConfig"]["enabled"])

    def shard(self, tenant: str) -> dict[str, Stored]:
        """The objects of a tenant.

        Raises:
            LookupError: in a server's words.
        """
        if self.is_multi_tenant != bool(tenant):
            raise LookupError(
                f"class {self.schema['class']} has multi-tenancy {'enabled, but request was without' if self.is_multi_tenant else 'disabled, but request was with'} tenant"
            )
        if self.is_multi_tenant and tenant not in self.tenants:
            raise LookupError(f"tenant not found: {tenant!r}")
        return self.tenants.setdefault(tenant, {})

    def type_of(self, name: str) -> str:
        """The data type of a property."""
        return next((item["dataType"][0] for item in self.schema["properties"] if item["name"] == name), "")


def completed(stated: Mapping[str, Any]) -> dict[str, Any]:
    """A class as a server states it: with every default."""
    made = _merged(CLASS, stated)
    made.setdefault("description", "")
    for config in made.get("vectorConfig", {}).values():
        config["vectorIndexConfig"] = _merged(HNSW, config.get("vectorIndexConfig", {}))
        config.setdefault("vectorIndexType", "hnsw")
    for item in made.get("properties", []):
        is_text = item["dataType"][0].startswith("text")
        item.setdefault("indexFilterable", True)
        item.setdefault("indexSearchable", is_text)
        item.setdefault("indexRangeFilters", False)
        if is_text:
            item.setdefault("tokenization", "word")
    return made


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    made = copy.deepcopy(dict(below))
    for key, value in above.items():
        nested = isinstance(value, Mapping) and isinstance(made.get(key), Mapping)
        made[key] = _merged(made[key], value) if nested else copy.deepcopy(value)
    return made


def passes(item: Stored, wanted: base_pb2.Filters) -> bool:
    """Whether an object passes a filter."""
    if wanted.operator == Operator.OPERATOR_AND:
        return all(passes(item, part) for part in wanted.filters)
    if wanted.operator == Operator.OPERATOR_OR:
        return any(passes(item, part) for part in wanted.filters)
    if wanted.operator == Operator.OPERATOR_NOT:
        return not passes(item, wanted.filters[0])
    name = wanted.target.property
    held = item.uuid if name in ("_id", "id") else item.properties.get(name)
    members = held if isinstance(held, list) else [] if held is None else [held]
    asked = _asked(wanted)
    tests: dict[int, Callable[[Any], bool]] = {
        Operator.OPERATOR_EQUAL: lambda value: bool(value == asked),
        Operator.OPERATOR_LESS_THAN: lambda value: bool(value < asked),
        Operator.OPERATOR_LESS_THAN_EQUAL: lambda value: bool(value <= asked),
        Operator.OPERATOR_GREATER_THAN: lambda value: bool(value > asked),
        Operator.OPERATOR_GREATER_THAN_EQUAL: lambda value: bool(value >= asked),
        Operator.OPERATOR_CONTAINS_ANY: lambda value: value in asked,
    }
    return any(tests[wanted.operator](value) for value in members)


def _asked(wanted: base_pb2.Filters) -> Any:
    kind = wanted.WhichOneof("test_value")
    value = getattr(wanted, kind)
    return set(value.values) if kind.endswith("_array") else value


def matching(shard: Mapping[str, Stored], wanted: base_pb2.Filters | None) -> list[Stored]:
    """The objects that pass, by id."""
    return [item for _, item in sorted(shard.items()) if wanted is None or passes(item, wanted)]


def by_vector(among: Iterable[Stored], vector: npt.NDArray[np.float32], limit: int) -> list[tuple[Stored, float]]:
    """(object, cosine distance), nearest first."""
    found = [item for item in among if item.vector is not None and item.vector.shape == vector.shape]
    if not found:
        return []
    matrix = np.stack([item.vector for item in found if item.vector is not None]).astype(np.float64)
    lengths = np.linalg.norm(matrix, axis=1) * np.linalg.norm(vector.astype(np.float64))
    distances = 1 - matrix @ vector.astype(np.float64) / np.maximum(lengths, 1e-30)
    order = sorted(range(len(found)), key=lambda place: (distances[place], found[place].uuid))
    return [(found[place], float(distances[place])) for place in order[:limit]]


def by_words(
    collection: FakeCollection,
    shard: Mapping[str, Stored],
    among: Sequence[Stored],
    query: str,
    names: Sequence[str],
    limit: int,
) -> list[tuple[Stored, float]]:
    """(object, BM25 score), highest first; frequencies are those of the whole shard."""
    (name,) = names
    bm25 = collection.schema["invertedIndexConfig"]["bm25"]
    held = {key: Counter(str(item.properties.get(name, "")).split()) for key, item in shard.items()}
    average = sum(counts.total() for counts in held.values()) / max(1, len(held))
    scores: Counter[str] = Counter()
    for term, times in Counter(query.split()).items():
        frequency = sum(term in counts for counts in held.values())
        idf = math.log(1 + (len(held) - frequency + 0.5) / (frequency + 0.5))
        for item in among:
            counts = held[item.uuid]
            if term in counts:
                norm = bm25["k1"] * (1 - bm25["b"] + bm25["b"] * counts.total() / average)
                scores[item.uuid] += times * idf * counts[term] / (counts[term] + norm)
    ranked = sorted(scores.items(), key=lambda found: (-found[1], found[0]))
    return [(shard[key], score) for key, score in ranked[:limit]]
