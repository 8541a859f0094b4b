"""Pages of the web as a source: the URLs that the settings list, one document each. No link is followed."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

from rag_assets.documents.names import SUPPORTED, display_uri, suffix_of
from rag_assets.documents.source import FileContent, FileGone, FileUnreadable
from rag_assets.documents.sources.fetching import Fetcher, FetchFailed, Response, Unanswered
from rag_assets.documents.sources.protocol import Names, SourceUnavailable, too_large, version_number
from rag_assets.errors import ConfigurationError, UnparsableDocument
from rag_assets.fingerprint import hash_bytes
from rag_assets.models import Listing, SkippedFile, SourceFile
from rag_assets.settings import SourcesSettings
from rag_assets.settings.source_urls import described

MAX_BYTES = 1_000_000_000
"""Of a page that is hashed only; a body that never ends is given up here, or when its time is over."""
_GONE = (404, 410)
_NO_HEAD = (400, 403, 405, 501)
"""Answers after which a server may still answer GET."""
_PATIENCE = 3
"""So many pages of a host are waited for in vain; after that, the others of one listing are taken to be unanswered, too."""


@dataclass(frozen=True, slots=True)
class _Looked:
    """What a server says of a page without sending it."""

    status: int = 0
    size: int = 0
    version: int = 0
    problem: str = ""


class PagesSource:
    """A document a URL, named by host and path. What a server states (ETag, else Last-Modified) is the version."""

    parallel = 8

    def __init__(self, urls: Sequence[str], settings: SourcesSettings) -> None:
        self._description = described(tuple(urls))
        self._fetcher = Fetcher(settings)
        self._urls: dict[bytes, str] = {}
        self._guessed: Mapping[bytes, int] = {}
        self._silent: Counter[str] = Counter()
        for url in urls:
            path = page_path(url)
            if path in self._urls:
                raise ConfigurationError(f"The sources {self._urls[path]} and {url} would have one name. Delete one.")
            self._urls[path] = url

    @property
    def description(self) -> str:
        """The first of its URLs, and how many there are."""
        return self._description

    def listing(self, exclude: Sequence[str] = ()) -> Listing:
        """See ``DocumentSource``. A page whose server says 404 or 410 is not there; any other trouble leaves it as it is."""
        names, files, skipped = Names(exclude), [], []
        # Hidden names are for folders: a URL that a person listed is meant.
        paths = sorted(path for path in self._urls if not names.excluded(path))
        self._silent = Counter()
        with ThreadPoolExecutor(self.parallel) as pool:
            found = dict(zip(paths, pool.map(self._look, paths), strict=True))
        for path, looked in found.items():
            if looked.problem:
                skipped.append(SkippedFile(path, display_uri(path), looked.problem, unreadable=True))
            elif looked.status not in _GONE:
                files.append(SourceFile(path, display_uri(path), looked.size, looked.version))
        if skipped and len(skipped) == len(paths):
            raise SourceUnavailable(f"The source {self._description}: {skipped[0].reason}. Nothing was changed.")
        self._guessed = {path: looked.version for path, looked in found.items()}
        return Listing(tuple(files), tuple(skipped))

    def read(self, path: bytes, max_bytes: int) -> FileContent:
        """See ``DocumentSource``."""
        data = bytearray()

        def take(block: bytes) -> None:
            data.extend(block)
            if len(data) > max_bytes:
                raise too_large(len(data), max_bytes)

        version = self._fetch(path, take, max_bytes)
        whole = bytes(data)
        return FileContent(whole, hash_bytes(whole), len(whole), version)

    def digest(self, path: bytes) -> tuple[str, int, int]:
        """See ``DocumentSource``."""
        state, size = hashlib.blake2b(digest_size=len(hash_bytes(b"")) // 2), 0

        def take(block: bytes) -> None:
            nonlocal size
            state.update(block)
            size += len(block)
            if size > MAX_BYTES:
                raise FileUnreadable(f"{display_uri(path)} sent more than {MAX_BYTES:,} bytes and was given up.")

        version = self._fetch(path, take, MAX_BYTES)
        return state.hexdigest(), size, version

    def is_there(self, path: bytes) -> bool:
        """Whether the URL is still in the settings and its server does not say that it is gone."""
        if path not in self._urls:
            return False
        looked = self._look(path)
        return bool(looked.problem) or looked.status not in _GONE

    def _look(self, path: bytes) -> _Looked:
        url = self._urls[path]
        host = urlsplit(url).netloc
        if self._silent[host] >= _PATIENCE:
            return _Looked(problem=f"{url}: {host} did not answer for other pages")
        try:
            for method in ("HEAD", "GET"):
                with self._fetcher.open(method, url) as response:
                    if method == "HEAD" and response.status in _NO_HEAD:
                        continue
                    if response.status != 200 and response.status not in _GONE:
                        return _Looked(problem=f"{url} answers {response.status}")
                    version = _version(response)
                    return _Looked(
                        response.status, _length(response) or 0, version_number() if version is None else version
                    )
        except FetchFailed as error:
            self._silent[host] += isinstance(error, Unanswered)
            return _Looked(problem=f"{url}: {error}")
        raise AssertionError("a GET is answered or fails")

    def _fetch(self, path: bytes, take: Callable[[bytes], None], max_bytes: int) -> int:
        """Give a page's body to ``take``; returns its version."""
        url = self._urls.get(path)
        if url is None:
            raise FileGone(f"{display_uri(path)} is not in the settings any more.")
        try:
            with self._fetcher.open("GET", url) as response:
                if response.status in _GONE:
                    raise FileGone(f"{url} answers {response.status}.")
                if response.status != 200:
                    raise FileUnreadable(f"{url} answers {response.status}. It is tried again with the next sync.")
                _refuse_other_type(path, url, response)
                if (_length(response) or 0) > max_bytes:
                    raise too_large(_length(response) or 0, max_bytes)
                for block in response.blocks:
                    take(block)
                version = _version(response)
                # Without one, what was read is what the listing meant.
                return self._guessed.get(path, version_number()) if version is None else version
        except FetchFailed as error:
            raise FileUnreadable(f"{url}: {error}.") from None


def page_path(url: str) -> bytes:
    """A page's name: host, path and query, with an extension that says how it is read (``.html`` where the path has none).

    ``https://example.org/leave?year=2`` is ``example.org/leave?year=2.html``.
    """
    parts = urlsplit(url)
    path = parts.path or "/"
    if path.endswith("/"):
        path += "index.html"
    suffix = suffix_of(path.rpartition("/")[2].encode())
    known = suffix in SUPPORTED
    stem, ending = (path[: -len(suffix)], path[-len(suffix) :]) if known else (path, ".html")
    return f"{parts.netloc.lower()}{stem}{'?' + parts.query if parts.query else ''}{ending}".encode()


def _refuse_other_type(path: bytes, url: str, response: Response) -> None:
    """A page that is read as HTML because its URL does not say what it is must not be something else."""
    kind = response.headers.get("content-type", "text/html").partition(";")[0].strip().lower()
    said = suffix_of(urlsplit(url).path.rpartition("/")[2].encode()) in SUPPORTED
    if not said and path.endswith(b".html") and kind not in ("text/html", "application/xhtml+xml", "text/plain"):
        raise UnparsableDocument(
            f"is {kind}, which its URL does not say; name a URL that ends in a supported extension"
        )


def _length(response: Response) -> int | None:
    text = response.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() else None


def _version(response: Response) -> int | None:
    etag, modified = response.headers.get("etag"), response.headers.get("last-modified")
    if etag:
        return version_number("etag", etag.removeprefix("W/").strip('"'))
    return version_number("modified", modified) if modified else None
