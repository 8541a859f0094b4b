"""How a row of a generation becomes an object: names, schema, properties, and back."""

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np

from rag_assets.database.generations import Generation
from rag_assets.settings import IndexSettings, LexicalSettings
from rag_assets.stores.protocol import Vector

if TYPE_CHECKING:
    from weaviate import WeaviateClient
    from weaviate.collections.classes.internal import Object

NUMBERS = ("page", "position", "start", "end", "tokens")
"""Fields of the payload that are whole numbers, or nothing, in every row: properties of their own, which ranges read."""
_SHOWN = ("chunk_id", "doc_id", "text_hash", "text", "payload")
VECTOR = "default"
"""Name of the objects' one vector."""
NAMESPACE = uuid.UUID("5b0e6f0c-6d0f-5f6a-9b63-0d4b0c8f4f0a")


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of a generation: what its object must be."""

    chunk_id: str
    doc_id: str
    text_hash: str
    text: str
    payload: Mapping[str, Any]
    vector: Vector


def object_id(chunk_id: str) -> str:
    """Always the same for a chunk, so that sending it twice changes nothing."""
    return str(uuid.uuid5(NAMESPACE, chunk_id))


def own_prefix(prefix: str, installation: str) -> str:
    """What the names of an installation's collections begin with."""
    return f"{prefix}_{installation}_g"


def alias_name(prefix: str, collection: str) -> str:
    """The alias of a collection's live generation: ``my-docs`` is ``RagAssets_My__docs``, and no two names are alike."""
    escaped = collection.replace("_", "_u").replace("-", "__")
    return f"{prefix}_{escaped[:1].upper()}{escaped[1:]}"


def create_collection(
    client: "WeaviateClient", name: str, generation: Generation, index: IndexSettings, lexical: LexicalSettings
) -> None:
    """Make the collection of a generation; everything that decides an answer is stated, for servers differ in defaults."""
    from weaviate.classes.config import (
        Configure,
        DataType,
        Property,
        StopwordsPreset,
        Tokenization,
        VectorDistances,
        VectorFilterStrategy,
    )

    def text(name: str, *, filterable: bool = False, words: bool = False, several: bool = False) -> Property:
        return Property(
            name=name,
            data_type=DataType.TEXT_ARRAY if several else DataType.TEXT,
            index_filterable=filterable,
            index_searchable=words,
            tokenization=Tokenization.WHITESPACE if words else Tokenization.FIELD,
        )

    made, store = generation.config["index"], generation.config["store"]
    client.collections.create(
        name,
        description=f"{generation.name} of rag-assets: a mirror of its PostgreSQL database, written by it alone",
        properties=[
            text("chunk_id", filterable=True),
            text("doc_id", filterable=True),
            text("text_hash"),
            text("text"),
            text("payload"),
            # What is embedded, as terms: stemmed in its own language, without stop words.
            text("words", words=True),
            text("facts", filterable=True, several=True),
            Property(name="language", data_type=DataType.INT, index_filterable=False),
            *(Property(name=name, data_type=DataType.INT, index_range_filters=True) for name in NUMBERS),
        ],
        vector_config=Configure.Vectors.self_provided(
            name=VECTOR,
            quantizer=Configure.VectorIndex.Quantizer.none(),
            vector_index_config=Configure.VectorIndex.hnsw(
                distance_metric=VectorDistances.COSINE,
                max_connections=made["m"],
                ef_construction=made["ef_construction"],
                ef=index.ef_search,
                filter_strategy=VectorFilterStrategy.ACORN,
            ),
        ),
        inverted_index_config=Configure.inverted_index(
            bm25_k1=lexical.k1, bm25_b=lexical.b, stopwords_preset=StopwordsPreset.NONE
        ),
        multi_tenancy_config=Configure.multi_tenancy(enabled=store["multi_tenancy"]),
        replication_config=Configure.replication(factor=store["replication_factor"]),
    )


def properties(entry: Entry, terms: Sequence[str], language: int) -> dict[str, Any]:
    """The properties of an entry's object; ``terms`` are those of the text that is embedded."""
    numbers = {name: entry.payload[name] for name in NUMBERS if isinstance(entry.payload.get(name), int)}
    return {
        "chunk_id": entry.chunk_id,
        "doc_id": entry.doc_id,
        "text_hash": entry.text_hash,
        "text": entry.text,
        "payload": json.dumps(entry.payload, ensure_ascii=False, sort_keys=True),
        "words": " ".join(terms),
        "facts": sorted(set(facts(entry.payload))),
        "language": language,
        **numbers,
    }


def facts(payload: Mapping[str, Any]) -> Iterator[str]:
    """What equality filters ask for: one for every field and scalar, members of lists included."""
    for field, value in payload.items():
        if field in NUMBERS:
            continue
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, bool):
                yield fact(field, "truth", str(item).lower())
            elif isinstance(item, int | float):
                yield fact(field, "number", _plain(Decimal(repr(item))))
            elif isinstance(item, str):
                yield fact(field, "text", item)


def fact(field: str, kind: str, value: str) -> str:
    """A field and a value of it as one word: any field, of any length, without a schema of its own."""
    return blake2b(json.dumps([field, kind, value]).encode(), digest_size=16).hexdigest()


def number_fact(field: str, value: Decimal) -> str:
    """The fact of a number."""
    return fact(field, "number", _plain(value))


def _plain(value: Decimal) -> str:
    return f"{value.normalize() + 0:f}"


def entry_of(found: "Object[Any, Any]") -> Entry:
    """The entry an object holds. A property that is missing is empty: the entry then differs from any row's."""
    held = found.properties
    chunk_id, doc_id, text_hash, text, payload = (str(held.get(name) or "") for name in _SHOWN)
    stored = found.vector.get(VECTOR, []) if isinstance(found.vector, dict) else []
    return Entry(chunk_id, doc_id, text_hash, text, _parsed(payload), np.asarray(stored, dtype=np.float32))


def _parsed(payload: str) -> Mapping[str, Any]:
    try:
        value = json.loads(payload)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def same(one: Entry, other: Entry) -> bool:
    """Whether two entries say the same; a server may have normalised the vector, so its direction counts."""
    if (one.chunk_id, one.doc_id, one.text_hash, one.text, one.payload) != (
        other.chunk_id, other.doc_id, other.text_hash, other.text, other.payload,
    ):  # fmt: skip
        return False
    return one.vector.shape == other.vector.shape and cosine(one.vector, other.vector) > 0.9999


def cosine(one: Vector, other: Vector) -> float:
    """Cosine similarity; 0 where a vector has no length or another dimension."""
    if one.shape != other.shape:
        return 0.0
    size = float(np.linalg.norm(one.astype(np.float64)) * np.linalg.norm(other.astype(np.float64)))
    return float(np.dot(one.astype(np.float64), other.astype(np.float64)) / size) if size else 0.0


SHOWN_PROPERTIES = list(_SHOWN)
