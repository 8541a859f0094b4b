"""The gRPC side: objects are written, deleted, searched, read; the messages are the client's own."""

import struct
import time
import uuid
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import numpy.typing as npt
from google.protobuf.json_format import MessageToDict
from weaviate.proto.v1 import (
    base_pb2,
    batch_delete_pb2,
    batch_pb2,
    properties_pb2,
    search_get_pb2,
    tenants_pb2,
    weaviate_pb2_grpc,
)

from rag_assets_tests.weaviate_fake.storage import FakeCollection, Stored, by_vector, by_words, matching

if TYPE_CHECKING:
    from rag_assets_tests.weaviate_fake.server import FakeWeaviate

MOST = 10_000
"""QUERY_MAXIMUM_RESULTS of a server."""


class Service(weaviate_pb2_grpc.WeaviateServicer):
    """What the client calls."""

    def __init__(self, fake: "FakeWeaviate") -> None:
        self._fake = fake

    def BatchObjects(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        self._begin("BatchObjects", request.consistency_level, context)
        fake, errors, half = self._fake, [], self._fake.take_half(len(request.objects))
        with fake.lock:
            for place, sent in enumerate(request.objects):
                if half is not None and place >= half:
                    context.abort(grpc.StatusCode.INTERNAL, "the server died in the middle of a batch")
                reason = self._store(sent)
                if reason is not None:
                    errors.append(batch_pb2.BatchObjectsReply.BatchError(index=place, error=reason))
        self._wait()
        return batch_pb2.BatchObjectsReply(took=0.001, errors=errors)

    def _store(self, sent: Any) -> str | None:
        collection = self._fake.collections.get(self._fake.aliases.get(sent.collection, sent.collection))
        if collection is None:
            return f"class {sent.collection} not found in schema"
        held = _properties(collection, sent.properties)
        reason = self._fake.refusing(held)
        if reason is not None:
            return reason
        try:
            shard = collection.shard(sent.tenant)
        except LookupError as error:
            return str(error)
        vector = np.frombuffer(sent.vectors[0].vector_bytes, dtype="<f4") if sent.vectors else None
        others = [item.vector for item in shard.values() if item.vector is not None]
        if vector is not None and others and others[0].shape != vector.shape:
            return f"vector lengths don't match: {others[0].size} vs {vector.size}"
        shard[sent.uuid] = Stored(sent.uuid, held, vector)
        return None

    def BatchDelete(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        self._begin("BatchDelete", request.consistency_level, context)
        with self._fake.lock:
            _, shard = self._shard(request, context)
            found = matching(shard, request.filters)[:MOST]
            deleted = []
            for item in found:
                reason = self._fake.refusing(item.properties)
                if reason is None:
                    del shard[item.uuid]
                made = batch_delete_pb2.BatchDeleteObject(
                    uuid=uuid.UUID(item.uuid).bytes, successful=reason is None, error=reason or ""
                )
                deleted.append(made)
        good = sum(item.successful for item in deleted)
        return batch_delete_pb2.BatchDeleteReply(
            took=0.001,
            matches=len(found),
            successful=good,
            failed=len(found) - good,
            objects=deleted if request.verbose else [],
        )

    def Search(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        self._begin("Search", request.consistency_level, context)
        self._wait()
        with self._fake.lock:
            collection, shard = self._shard(request, context)
            wanted = request.filters if request.HasField("filters") else None
            limit = min(request.limit or 100, MOST)
            if request.after and wanted is not None:
                context.abort(grpc.StatusCode.UNKNOWN, "where cannot be set with after parameter")
            among = matching(shard, wanted)
            if request.HasField("near_vector"):
                found = by_vector(among, _vector(request.near_vector), limit)
                results = [_result(collection, request, item, distance=value) for item, value in found]
            elif request.HasField("bm25_search"):
                asked = request.bm25_search
                found = by_words(collection, shard, among, asked.query, list(asked.properties), limit)
                results = [_result(collection, request, item, score=value) for item, value in found]
            else:
                rest = [item for item in among if not request.after or item.uuid > request.after]
                results = [_result(collection, request, item) for item in rest[:limit]]
        return search_get_pb2.SearchReply(took=0.001, results=results)

    def TenantsGet(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        self._begin("TenantsGet", 0, context)
        with self._fake.lock:
            collection = self._fake.collections.get(request.collection)
            names = list(collection.tenants) if collection is not None else []
            if request.HasField("names"):
                names = [name for name in names if name in request.names.values]
        active = tenants_pb2.TENANT_ACTIVITY_STATUS_ACTIVE
        return tenants_pb2.TenantsGetReply(
            tenants=[tenants_pb2.Tenant(name=name, activity_status=active) for name in names]
        )

    def _begin(self, call: str, level: int, context: grpc.ServicerContext) -> None:
        metadata = dict(context.invocation_metadata())
        self._fake.note(call, base_pb2.ConsistencyLevel.Name(level))
        if self._fake.api_key and metadata.get("authorization") != f"Bearer {self._fake.api_key}":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "unauthorized: invalid api key")

    def _wait(self) -> None:
        """Answer too late, after the work was done."""
        time.sleep(self._fake.delay_seconds)

    def _shard(self, request: Any, context: grpc.ServicerContext) -> tuple[FakeCollection, dict[str, Stored]]:
        name = self._fake.aliases.get(request.collection, request.collection)
        collection = self._fake.collections.get(name)
        if collection is None:
            context.abort(grpc.StatusCode.UNKNOWN, f"could not find class {request.collection} in schema")
        assert collection is not None
        try:
            return collection, collection.shard(request.tenant)
        except LookupError as error:
            context.abort(grpc.StatusCode.UNKNOWN, str(error))
            raise


def _properties(collection: FakeCollection, sent: Any) -> dict[str, Any]:
    held: dict[str, Any] = MessageToDict(sent.non_ref_properties)
    held |= {item.prop_name: list(item.values) for item in sent.text_array_properties}
    held |= {name: [] for name in sent.empty_list_props}
    return {name: int(value) if collection.type_of(name) == "int" else value for name, value in held.items()}


def _vector(near: Any) -> npt.NDArray[np.float32]:
    for data in (
        near.vector_bytes,
        *(item.vector_bytes for item in near.vectors),
        *(item.vector_bytes or item.vectors[0].vector_bytes for item in near.vector_for_targets),
        *near.vector_per_target.values(),
    ):
        if data:
            return np.frombuffer(data, dtype="<f4")
    raise AssertionError("a search by vector without one")


def _result(
    collection: FakeCollection, request: Any, item: Stored, *, distance: float | None = None, score: float | None = None
) -> Any:
    asked = request.metadata
    metadata = search_get_pb2.MetadataResult(id=item.uuid, id_as_bytes=uuid.UUID(item.uuid).bytes)
    if distance is not None and asked.distance:
        metadata.distance, metadata.distance_present = distance, True
    if score is not None and asked.score:
        metadata.score, metadata.score_present = score, True
    for name in asked.vectors:
        if item.vector is not None:
            metadata.vectors.append(
                base_pb2.Vectors(
                    name=name,
                    vector_bytes=item.vector.tobytes(),
                    type=base_pb2.Vectors.VECTOR_TYPE_SINGLE_FP32,
                )
            )
    shown = set(request.properties.non_ref_properties)
    fields = {
        name: _value(collection, name, value)
        for name, value in item.properties.items()
        if name in shown or request.properties.return_all_nonref_properties
    }
    return search_get_pb2.SearchResult(
        metadata=metadata,
        properties=search_get_pb2.PropertiesResult(
            target_collection=request.collection, non_ref_props=properties_pb2.Properties(fields=fields)
        ),
    )


def _value(collection: FakeCollection, name: str, value: Any) -> Any:
    match collection.type_of(name):
        case "int":
            return properties_pb2.Value(int_value=value)
        case "int[]":
            packed = struct.pack(f"<{len(value)}q", *value)
            return properties_pb2.Value(
                list_value=properties_pb2.ListValue(int_values=properties_pb2.IntValues(values=packed))
            )
        case "text[]":
            texts = properties_pb2.TextValues(values=value)
            return properties_pb2.Value(list_value=properties_pb2.ListValue(text_values=texts))
    return properties_pb2.Value(text_value=value)
