"""Fetching from the web without being led astray: checked addresses, checked redirects, a deadline, no more bytes than asked for.

httpcore (what httpx is made of) does the HTTP; it leaves connecting to us, follows no redirect by itself, keeps no cookies
and knows no proxies from the environment, behind which no address could be checked.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpcore

from rag_assets import __version__
from rag_assets.documents.sources.addresses import AddressRefused, Resolve, public_address, resolve
from rag_assets.errors import RagAssetsError
from rag_assets.settings import SourcesSettings
from rag_assets.settings.source_urls import PAGES

_REDIRECTS = (301, 302, 303, 307, 308)
_HEADERS: Mapping[bytes | str, bytes | str] = {
    "User-Agent": f"rag-assets/{__version__}",
    "Accept": "*/*",
    "Accept-Encoding": "identity",
}


class FetchFailed(RagAssetsError):
    """A URL could not be fetched; says why."""


class Unanswered(FetchFailed):
    """Its server can't be reached, or takes too long."""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer whose body has not been read yet."""

    status: int
    headers: Mapping[str, str]
    """Lower-case names."""
    blocks: Iterator[bytes]
    """The body; raises FetchFailed where it breaks off or takes too long."""


class Fetcher:
    """Makes requests within the limits of ``[sources]``; may be used by several threads."""

    def __init__(self, settings: SourcesSettings, resolve: Resolve = resolve) -> None:
        self._settings = settings
        self._resolve = resolve

    @contextmanager
    def open(self, method: str, url: str) -> Iterator[Response]:
        """The answer to a request, after its redirects.

        Raises:
            FetchFailed: an address is refused or does not answer, there are too many redirects, or time is up.
        """
        deadline = time.monotonic() + self._settings.timeout_seconds
        backend = _CheckedBackend(self._settings.allow_hosts, deadline, self._resolve)
        with httpcore.ConnectionPool(network_backend=backend, max_connections=1) as pool:
            for _ in range(self._settings.max_redirects + 1):
                with self._request(pool, method, url) as response:
                    target = response.headers.get("location")
                    if response.status not in _REDIRECTS or target is None:
                        yield response
                        return
                url = _redirected(url, target)
        raise FetchFailed(f"more than sources.max_redirects = {self._settings.max_redirects} redirects")

    @contextmanager
    def _request(self, pool: httpcore.ConnectionPool, method: str, url: str) -> Iterator[Response]:
        seconds = self._settings.timeout_seconds
        limits = dict.fromkeys(("connect", "read", "write", "pool"), seconds)
        try:
            answer = pool.stream(method, _ascii(url), headers=_HEADERS, extensions={"timeout": limits})
            with answer as received:
                headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in received.headers}
                yield Response(received.status, headers, self._blocks(received))
        except (httpcore.TimeoutException, TimeoutError):
            raise Unanswered(f"no complete answer within sources.timeout_seconds = {seconds:g}") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            raise Unanswered(str(error) or type(error).__name__) from None
        except (httpcore.UnsupportedProtocol, UnicodeError, ValueError) as error:
            raise FetchFailed(f"is no usable URL: {error}") from None

    def _blocks(self, received: httpcore.Response) -> Iterator[bytes]:
        try:
            yield from received.iter_stream()
        except (httpcore.TimeoutException, TimeoutError):
            seconds = self._settings.timeout_seconds
            raise Unanswered(f"no complete answer within sources.timeout_seconds = {seconds:g}") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            raise FetchFailed(f"the answer broke off: {error}") from None


def _redirected(url: str, target: str) -> str:
    """Where a redirect leads, if that may be followed."""
    joined = urljoin(url, target)
    before, after = urlsplit(url), urlsplit(joined)
    if after.scheme not in PAGES or (before.scheme == "https" and after.scheme == "http"):
        raise FetchFailed(f"redirects from {before.scheme}:// to {after.scheme}://, which is not followed")
    if after.username is not None or after.password is not None:
        raise FetchFailed("redirects to a URL with a user name, which is not followed")
    return joined


def _ascii(url: str) -> str:
    """A URL as it is sent: without its fragment, host in IDNA, the rest percent-encoded."""
    parts = urlsplit(url)
    host = (parts.hostname or "").encode("idna").decode() if not (parts.hostname or "").isascii() else parts.netloc
    port = f":{parts.port}" if parts.port and host != parts.netloc else ""

    def quoted(text: str) -> str:
        return "".join(
            char if char.isascii() and char > " " else "".join(f"%{b:02X}" for b in char.encode()) for char in text
        )

    query = f"?{quoted(parts.query)}" if parts.query else ""
    return f"{parts.scheme}://{host}{port}{quoted(parts.path) or '/'}{query}"


class _CheckedBackend(httpcore.NetworkBackend):
    """Connects to public addresses only, to the very one that was checked; every wait ends at the deadline."""

    def __init__(self, allow_hosts: tuple[str, ...], deadline: float, resolve: Resolve) -> None:
        self._allow_hosts = allow_hosts
        self._deadline = deadline
        self._resolve = resolve
        self._plain = httpcore.SyncBackend()

    def connect_tcp(self, host: str, port: int, timeout: float | None = None, local_address: str | None = None,
                    socket_options: Any = None) -> httpcore.NetworkStream:  # fmt: skip
        """See ``httpcore.NetworkBackend``; the certificate is still compared with the host's name."""
        try:
            address = public_address(host, port, self._allow_hosts, self._resolve)
        except AddressRefused as error:
            raise FetchFailed(str(error)) from None
        left = _left(self._deadline, timeout)
        stream = self._plain.connect_tcp(address, port, left, local_address, socket_options)
        return _TimedStream(stream, self._deadline)


class _TimedStream(httpcore.NetworkStream):
    """A connection whose every step takes no longer than what is left: a server that sends a byte a second gains nothing."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """See ``httpcore.NetworkStream``."""
        return self._stream.read(max_bytes, _left(self._deadline, timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """See ``httpcore.NetworkStream``."""
        self._stream.write(buffer, _left(self._deadline, timeout))

    def close(self) -> None:
        """See ``httpcore.NetworkStream``."""
        self._stream.close()

    def start_tls(self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None) -> Any:
        """See ``httpcore.NetworkStream``."""
        stream = self._stream.start_tls(ssl_context, server_hostname, _left(self._deadline, timeout))
        return _TimedStream(stream, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        """See ``httpcore.NetworkStream``."""
        return self._stream.get_extra_info(info)


def _left(deadline: float, timeout: float | None) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("the deadline is over")
    return left if timeout is None else min(left, timeout)
