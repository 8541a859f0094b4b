"""Real servers on loopback that sources are tested against: one that speaks S3 (moto), one of pages; both count what is asked."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "secret-of-the-tests", "AWS_REGION": "us-east-1"}


@dataclass
class S3Server:
    """A server that speaks S3, and what it was asked."""

    url: str
    client: Any
    asked: list[tuple[str, str]] = field(default_factory=list)
    """(method, path) of every request since it was cleared, those of ``client`` left out."""

    def bucket(self, name: str) -> "Bucket":
        """An empty bucket."""
        self.client.create_bucket(Bucket=name)
        self.asked.clear()
        return Bucket(self, name)


@dataclass
class Bucket:
    """A bucket of the server."""

    server: S3Server
    name: str

    def put(self, key: str, data: bytes) -> None:
        self.server.client.put_object(Bucket=self.name, Key=key, Body=data)
        self.server.asked.clear()

    def delete(self, key: str) -> None:
        self.server.client.delete_object(Bucket=self.name, Key=key)
        self.server.asked.clear()

    @property
    def read(self) -> list[str]:
        """Keys whose bytes were asked for, as often as they were."""
        start = f"/{self.name}/"
        return [
            path.removeprefix(start) for method, path in self.server.asked if method == "GET" and path.startswith(start)
        ]

    @property
    def lists(self) -> int:
        """How often it was listed."""
        return sum(path.rstrip("/") == f"/{self.name}" for _, path in self.server.asked)


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """moto's server mode behind a count of requests."""
    import boto3
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log(self, *_: Any, **__: Any) -> None:
            pass

    application = DomainDispatcherApplication(create_backend_app)
    asked: list[tuple[str, str]] = []

    def counting(environ: dict[str, Any], start: Any) -> Any:
        asked.append((environ["REQUEST_METHOD"], environ["PATH_INFO"].encode("latin-1").decode("utf-8")))
        return application(environ, start)

    server = make_server("127.0.0.1", 0, counting, threaded=True, request_handler=Quiet)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    url = f"http://127.0.0.1:{server.port}"
    client = boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="tester", aws_secret_access_key="x"
    )
    try:
        yield S3Server(url, client, asked)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """One such server for the session."""
    with s3_server() as server:
        yield server


@dataclass
class Page:
    """What the server of pages answers."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    versioned: bool = True
    """Whether an ETag of the body, and its length, are stated."""
    send: Callable[[BaseHTTPRequestHandler], None] | None = None
    """Sends the whole answer itself."""


@dataclass
class PageServer:
    """A server of pages by path."""

    host: str
    pages: dict[str, Page] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)

    def url(self, path: str) -> str:
        return f"http://{self.host}{path}"

    @property
    def read(self) -> list[str]:
        """Paths whose bytes were asked for."""
        return [path for method, path in self.asked if method == "GET"]


@contextmanager
def page_server() -> Iterator[PageServer]:
    """A server of pages."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            served.asked.append((self.command, self.path))
            page = served.pages.get(self.path, Page(b"nothing here", 404))
            if page.send is not None:
                page.send(self)
                return
            self.send_response(page.status)
            stated = {"ETag": f'"{hash(page.body)}"', "Content-Length": str(len(page.body))} if page.versioned else {}
            for name, value in {"Connection": "close", **stated, **page.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(page.body)

        do_HEAD = do_GET  # noqa: N815 - the name http.server looks for

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = PageServer(f"127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def web() -> Iterator[PageServer]:
    """A server of pages."""
    with page_server() as server:
        yield server
