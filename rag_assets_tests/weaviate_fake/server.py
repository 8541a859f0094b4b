"""Both sides on the loopback interface, and the ways in which a test may let them fail."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import ThreadingHTTPServer
from threading import RLock, Thread
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from weaviate.proto.v1 import weaviate_pb2_grpc

from rag_assets_tests.weaviate_fake.rest import Handler
from rag_assets_tests.weaviate_fake.service import Service
from rag_assets_tests.weaviate_fake.storage import FakeCollection, Stored


def nothing_refused(properties: dict[str, Any]) -> str | None:
    """No object is refused."""
    return None


class FakeWeaviate:
    """A server; use it as a context manager. What it holds outlives :meth:`stop`, as a disk does."""

    def __init__(self, *, version: str = "1.33.0", api_key: str | None = None) -> None:
        self.version, self.api_key = version, api_key
        self.collections: dict[str, FakeCollection] = {}
        self.aliases: dict[str, str] = {}
        self.lock = RLock()
        self.requests: list[tuple[str, str]] = []
        """(what was asked, path or consistency level), oldest first."""
        self.refusing: Callable[[dict[str, Any]], str | None] = nothing_refused
        """Says of an object's properties why its write or deletion fails; None: it does not."""
        self.delay_seconds = 0.0
        """How late searches and batches are answered, after they were done."""
        self.dying: list[int] = []
        self.port = self.grpc_port = 0

    def __enter__(self) -> "FakeWeaviate":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def settings(self) -> dict[str, Any]:
        """What ``[weaviate]`` says to use it."""
        return {"url": self.url, "grpc_port": self.grpc_port, "connect_seconds": 5, "query_seconds": 10}

    def start(self) -> None:
        """Serve, at the same ports as before if there was one."""
        handler = type("BoundHandler", (Handler,), {"fake": self})
        self._rest = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self._rest.daemon_threads = True
        self.port = self._rest.server_address[1]
        Thread(target=self._rest.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self._grpc = grpc.server(ThreadPoolExecutor(8))
        weaviate_pb2_grpc.add_WeaviateServicer_to_server(Service(self), self._grpc)
        checks = health.HealthServicer()
        checks.set("", health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(checks, self._grpc)
        self.grpc_port = self._grpc.add_insecure_port(f"127.0.0.1:{self.grpc_port}")
        self._grpc.start()

    def stop(self) -> None:
        """Stop serving."""
        self._rest.shutdown()
        self._rest.server_close()
        self._grpc.stop(None).wait()

    def note(self, asked: str, about: str) -> None:
        """Remember a request."""
        self.requests.append((asked, about))

    def die_after(self, *objects: int) -> None:
        """Let the next batches that are larger store that many objects each, and fail then without saying which."""
        self.dying = list(objects)

    def take_half(self, size: int) -> int | None:
        """After how many objects the batch of this size that begins dies."""
        return self.dying.pop(0) if self.dying and size > self.dying[0] else None

    def duplicate(self, name: str, other: str) -> None:
        """Make another collection with the same objects."""
        found = self.collections[name]
        self.collections[other] = FakeCollection({**found.schema, "class": other}, dict(found.tenants))

    def objects(self, name: str, tenant: str = "") -> dict[str, Stored]:
        """The objects of a collection, or of the one an alias points to, by id."""
        return self.collections[self.aliases.get(name, name)].tenants.get(tenant, {})
