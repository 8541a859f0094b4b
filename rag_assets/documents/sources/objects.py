"""Buckets of S3, Google Cloud Storage, Azure and what speaks S3, through obstore: one client for all.

A listing is one flat request per thousand objects, with their ETags; it fails as a whole or is whole. One GET brings an
object's bytes together with the ETag they belong to. That is why obstore is asked itself and not through its fsspec
adapter, whose walk leaves out folders it could not list, and whose reads ask for version and bytes one after the other.
"""

import hashlib
import os
import re
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from rag_assets.documents.names import display_uri
from rag_assets.documents.source import FileContent, FileGone, FileUnreadable
from rag_assets.documents.sources.protocol import Names, SourceUnavailable, too_large, version_number
from rag_assets.errors import ConfigurationError
from rag_assets.fingerprint import hash_bytes
from rag_assets.models import Listing, SkippedFile, SourceFile
from rag_assets.settings import SourceOptions, SourcesSettings
from rag_assets.settings.source_urls import OBJECT_STORES

if TYPE_CHECKING:
    from obstore.store import ObjectStore

EXTRA = "objects"
_RETRIES = 3
_DIGEST_BYTES = len(hash_bytes(b"")) // 2
_CONNECT_SECONDS = 10.0


def build_store(url: str, options: SourceOptions, settings: SourcesSettings) -> "ObjectStore":
    """A client for the bucket of a URL. Credentials come from the environment, as the provider's own tools find them.

    Raises:
        ConfigurationError: obstore is not installed, or an option does not fit.
    """
    try:
        from obstore.store import AzureStore, GCSStore, S3Store
    except ImportError:
        raise ConfigurationError(
            f"The source {url} needs a package that is not installed. Run: pip install 'rag-assets[{EXTRA}]'"
        ) from None
    parts = urlsplit(url)
    kind = OBJECT_STORES[parts.scheme]
    endpoint = options.endpoint_url or (os.environ.get("AWS_ENDPOINT_URL") if kind == "S3" else None)
    seconds = settings.timeout_seconds
    common: dict[str, Any] = {
        "client_options": {
            "timeout": timedelta(seconds=seconds),
            "connect_timeout": timedelta(seconds=min(_CONNECT_SECONDS, seconds)),
            "allow_http": bool(endpoint and endpoint.startswith("http://")),
        },
        "retry_config": {"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=seconds)},
    }
    if options.anonymous:
        common["skip_signature"] = True
    try:
        if kind == "S3":
            return S3Store(parts.netloc, **common, **_s3_options(endpoint, options))
        if kind == "Azure":
            own: dict[str, Any] = {"account_name": options.account, "endpoint": endpoint}
            return AzureStore(parts.netloc, **common, **{name: value for name, value in own.items() if value})
        if endpoint:
            raise ConfigurationError(f"{url}: options.endpoint_url is for S3 and Azure. Delete it.")
        return GCSStore(parts.netloc, **common)
    except ConfigurationError:
        raise
    except Exception as error:
        raise ConfigurationError(f"The source {url} can't be set up: {_short(error)}. Correct its `options`.") from None


def _s3_options(endpoint: str | None, options: SourceOptions) -> dict[str, Any]:
    """Region, server and credentials. What the environment does not hold, boto3 finds: profiles, single sign-on, roles."""
    region = options.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    found: dict[str, Any] = {"endpoint": endpoint} if endpoint else {}
    profile = options.profile or os.environ.get("AWS_PROFILE")
    if not options.anonymous and (profile or "AWS_ACCESS_KEY_ID" not in os.environ):
        import boto3
        import botocore.exceptions
        from obstore.auth.boto3 import Boto3CredentialProvider

        try:
            session = boto3.Session(profile_name=profile)
            region = region or session.region_name
            if session.get_credentials() is not None:
                found["credential_provider"] = Boto3CredentialProvider(session)
        except botocore.exceptions.BotoCoreError as error:
            raise ConfigurationError(
                f"The AWS configuration can't be used: {error}. Correct options.profile."
            ) from None
    return {**found, "region": region or "us-east-1"}


class ObjectSource:
    """The objects of a bucket below a prefix; the key below the prefix is the path."""

    parallel = 8

    def __init__(self, url: str, store: "ObjectStore", seconds: float) -> None:
        """``seconds`` is the time limit the store was built with, for messages."""
        self._url = url
        self._seconds = seconds
        self._store = store
        prefix = urlsplit(url).path.strip("/")
        self._prefix = prefix + "/" if prefix else ""

    @property
    def description(self) -> str:
        """Its URL."""
        return self._url

    def listing(self, exclude: Sequence[str] = ()) -> Listing:
        """See ``DocumentSource``."""
        names, files, skipped = Names(exclude), [], []
        try:
            for batch in self._store.list(self._prefix or None):
                for found in batch:
                    path = found["path"].removeprefix(self._prefix).encode()
                    if names.ignored(path):
                        continue
                    problem = names.problem(path)
                    if problem is None:
                        files.append(SourceFile(path, display_uri(path), found["size"], _version(found)))
                    elif (
                        found["size"] or b"." in path.rpartition(b"/")[2]
                    ):  # an empty one is a console's idea of a folder
                        skipped.append(SkippedFile(path, display_uri(path), problem))
        except Exception as error:
            self._explain(error)
        return Listing(
            tuple(sorted(files, key=lambda file: file.path)), tuple(sorted(skipped, key=lambda file: file.path))
        )

    def read(self, path: bytes, max_bytes: int) -> FileContent:
        """See ``DocumentSource``."""
        found, blocks = self._get(path)
        if found["size"] > max_bytes:
            raise too_large(found["size"], max_bytes)
        data = bytearray()
        for block in self._whole(path, found["size"], blocks):
            data += block
        whole = bytes(data)
        return FileContent(whole, hash_bytes(whole), len(whole), _version(found))

    def digest(self, path: bytes) -> tuple[str, int, int]:
        """See ``DocumentSource``."""
        found, blocks = self._get(path)
        state = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        for block in self._whole(path, found["size"], blocks):
            state.update(block)
        return state.hexdigest(), found["size"], _version(found)

    def is_there(self, path: bytes) -> bool:
        """A GET, not a HEAD: only its answer tells a missing object from a missing bucket."""
        try:
            self._store.get(self._prefix + path.decode())
        except FileNotFoundError as error:
            return "NoSuchBucket" in str(error) or "ContainerNotFound" in str(error)
        except Exception:
            return True
        return True

    def _get(self, path: bytes) -> tuple[Any, Any]:
        uri = display_uri(path)
        try:
            answer = self._store.get(self._prefix + path.decode())
        except FileNotFoundError:
            raise FileGone(f"{uri} was deleted after it was listed.") from None
        except Exception as error:
            raise FileUnreadable(f"{uri} can't be read from {self._url}: {_short(error)}.") from None
        return answer.meta, answer.stream()

    def _whole(self, path: bytes, size: int, blocks: Any) -> Any:
        """The blocks of an answer; what is cut short, or longer than it said, is no file."""
        length = 0
        try:
            for block in blocks:
                length += len(block)
                if length > size:
                    break
                yield memoryview(block)
        except Exception as error:
            raise FileUnreadable(
                f"{display_uri(path)} can't be read from {self._url} to its end: {_short(error)}."
            ) from None
        if length != size:
            raise FileUnreadable(f"{display_uri(path)}: {self._url} sent {length:,} of {size:,} bytes.")

    def _explain(self, error: Exception) -> NoReturn:
        """Turn what the client says of a failed listing into what a person can do about it."""
        from obstore.exceptions import InvalidPathError, PermissionDeniedError, UnauthenticatedError

        text, reason = str(error), _short(error)
        if isinstance(error, InvalidPathError):
            raise ConfigurationError(
                f"The source {self._url} holds an object whose name can't be addressed: {reason}. Rename or delete it."
            ) from None
        if isinstance(error, UnauthenticatedError | PermissionDeniedError) or any(
            code in text for code in ("InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "403 Forbidden")
        ):
            raise ConfigurationError(
                f"The source {self._url} refuses our credentials: {reason}. Correct them in the environment, and grant "
                "them the right to list and read."
            ) from None
        if "NoSuchBucket" in text or "ContainerNotFound" in text or isinstance(error, FileNotFoundError):
            raise ConfigurationError(f"The source {self._url} does not exist: {reason}. Correct `source`.") from None
        raise SourceUnavailable(
            f"The source {self._url} can't be listed (within sources.timeout_seconds = {self._seconds:g}): {reason}. Nothing "
            "was changed; check the address and the network."
        ) from None


def _version(found: Any) -> int:
    """ETags differ for different bytes, so the time counts only where there is none."""
    if found.get("e_tag"):
        return version_number("etag", found["e_tag"].strip('"'))
    modified = found.get("last_modified")
    return version_number("modified", modified.isoformat()) if modified else version_number()


def _short(error: BaseException) -> str:
    """One line of an error of the client, without the XML and the debugging output behind it."""
    text = str(error).split("\n\nDebug source")[0]
    code = text.partition("<Code>")[2].partition("</Code>")[0]
    line = " ".join(text.partition("<?xml")[0].partition("<Error>")[0].split()).rstrip(".: ")
    line = re.sub(r", after \d+ retries, max_retries: \d+, retry_timeout: \S+", "", line)
    line = re.sub(r"Generic \w+ error: (Error performing list request: )?", "", line)
    return f"{line[:400]}{f' ({code})' if code else ''}"
