"""What a collection's ``source`` may be: a folder, a bucket, a repository or a list of pages. Secrets are refused in any of them."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl, urlsplit

OBJECT_STORES: Mapping[str, str] = MappingProxyType(
    {"s3": "S3", "gs": "Google Cloud Storage", "gcs": "Google Cloud Storage", "az": "Azure", "abfs": "Azure"}
)
"""Schemes of object stores, and whose they are."""
PAGES = ("http", "https")
GIT = ("git+https", "git+http", "git+ssh", "git+file")
SCHEMES = (*OBJECT_STORES, *PAGES, *GIT)

Source = Path | str | tuple[str, ...]
"""A folder; the URL of a bucket (and prefix) or a repository; or URLs of pages."""

_SECRET_PARAMETER = re.compile(
    r"(x-amz-|x-goog-)?(signature|credential|security-token)|sig|(access_|auth_|id_)?token|pass(word|wd)?|secret|api_?key|key",
    re.IGNORECASE,
)


def is_url(value: object) -> bool:
    """Whether a ``source`` as people write it is a URL and not the path of a folder."""
    return isinstance(value, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", value) is not None


def checked_source(value: object) -> Source:
    """A ``source`` as the settings keep it.

    Raises:
        ValueError: an unknown scheme, an incomplete URL, or one that holds a secret; never repeats the secret.
    """
    if isinstance(value, list | tuple):
        return _pages(value)
    if isinstance(value, Path):
        return value
    if not isinstance(value, str):
        raise ValueError("must be a folder, a URL, or a list of http(s) URLs")
    if not is_url(value):
        return Path(value)
    return _pages([value]) if urlsplit(value).scheme.lower() in PAGES else _checked_url(value)


def _pages(values: Iterable[Any]) -> tuple[str, ...]:
    urls = tuple(values)
    if not urls:
        raise ValueError("names no page; list at least one http(s) URL")
    for url in urls:
        if not is_url(url) or urlsplit(url).scheme.lower() not in PAGES:
            raise ValueError("a list of sources holds http(s) URLs only; give a folder or a bucket its own collection")
    return tuple(dict.fromkeys(_checked_url(url) for url in urls))


def _checked_url(url: str) -> str:
    if not url.isprintable() or " " in url:
        raise ValueError("holds a space or a control character; percent-encode it")
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    if scheme not in SCHEMES:
        raise ValueError(
            f"{scheme}:// is not a kind of source; known are a folder's path and {', '.join(s + '://' for s in SCHEMES)}"
        )
    if parts.password is not None or (parts.username is not None and scheme != "git+ssh"):
        raise ValueError("holds a user name or password; credentials belong into the environment, not into a URL")
    if any(_SECRET_PARAMETER.fullmatch(name) for name, _ in parse_qsl(parts.query, keep_blank_values=True)):
        raise ValueError("holds a signature, key or token; credentials belong into the environment, not into a URL")
    if scheme in OBJECT_STORES and (parts.query or parts.fragment):
        raise ValueError("has a query or a fragment; write scheme://bucket/prefix, and the rest under `options`")
    if not parts.netloc and scheme != "git+file":
        raise ValueError("names no host or bucket")
    try:
        _ = parts.port if scheme not in OBJECT_STORES else None
    except ValueError:
        raise ValueError("has a port that is not a number up to 65535") from None
    return scheme + url[len(parts.scheme) :]


def described(source: Source) -> str:
    """A source as messages name it."""
    if not isinstance(source, tuple):
        return str(source)
    return source[0] if len(source) == 1 else f"{source[0]} and {len(source) - 1} more pages"


def redacted(value: object) -> str:
    """A setting's value for a message: whatever may be a secret in a URL is left out."""
    text = re.sub(r"(://)[^/@\s'\"]*@", r"\1***@", repr(value))
    return re.sub(r"(://[^\s'\"?]*\?)[^\s'\"]*", r"\1***", text)
