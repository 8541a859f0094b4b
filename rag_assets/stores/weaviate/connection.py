"""The connection to a Weaviate server, made when first asked for, and its errors in words for people."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rag_assets.errors import ConfigurationError, RagAssetsError
from rag_assets.settings import WeaviateSettings

if TYPE_CHECKING:
    from weaviate import WeaviateClient

OLDEST = (1, 32)
"""The first release with aliases."""
NOT = (1, 33)
"""The first release whose filters can negate."""


class WeaviateConnection:
    """One client for the process; any thread may use it."""

    def __init__(self, settings: WeaviateSettings) -> None:
        self.settings = settings
        self._client: WeaviateClient | None = None
        self._lock = Lock()
        self.version: tuple[int, ...] = ()
        """Of the server, once connected."""

    @property
    def client(self) -> "WeaviateClient":
        """The client, connected and checked.

        Raises:
            ConfigurationError: the package or the key's variable is missing, or the key is refused.
            RagAssetsError: the server can't be reached, or is too old.
        """
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def check(self) -> None:
        """Is it still there, and new enough?

        Raises:
            ConfigurationError: as :attr:`client`.
            RagAssetsError: as :attr:`client`.
        """
        client = self.client
        with self.explained("say what it is"):
            self.version = self._checked_version(client.get_meta())

    def close(self) -> None:
        """Close it, if it was ever made."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _connect(self) -> "WeaviateClient":
        try:
            import weaviate
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"store = 'weaviate' needs the package weaviate-client, which can't be imported ({error}). "
                "Run `pip install weaviate-client`, or set store = 'pgvector'."
            ) from None
        from weaviate.classes.init import AdditionalConfig, Auth, Timeout

        # It logs refused objects whole, with the words of documents; we name them in an error.
        logging.getLogger("weaviate-client").setLevel(logging.CRITICAL)

        wanted, parts = self.settings, urlsplit(self.settings.url)
        secure = parts.scheme == "https"
        key = _key(wanted)
        timeout = Timeout(init=wanted.connect_seconds, query=wanted.query_seconds, insert=wanted.insert_seconds)
        client = weaviate.WeaviateClient(
            connection_params=weaviate.connect.ConnectionParams.from_params(
                http_host=parts.hostname or "",
                http_port=parts.port or (443 if secure else 80),
                http_secure=secure,
                grpc_host=self._grpc[0],
                grpc_port=self._grpc[1],
                grpc_secure=self._grpc[2],
            ),
            auth_client_secret=Auth.api_key(key) if key else None,
            additional_config=AdditionalConfig(timeout=timeout),
            # Those ask the package index for the client's newest release.
            skip_init_checks=True,
        )
        try:
            with self.explained("connect to it", seconds=wanted.query_seconds):
                client.connect()
                self.version = self._checked_version(client.get_meta())
            self._check_grpc()
        except BaseException:
            client.close()
            raise
        return client

    @property
    def _grpc(self) -> tuple[str, int, bool]:
        parts, wanted = urlsplit(self.settings.url), self.settings
        secure = parts.scheme == "https" if wanted.grpc_secure is None else wanted.grpc_secure
        return wanted.grpc_host or parts.hostname or "", wanted.grpc_port, secure

    def _checked_version(self, meta: dict[str, Any]) -> tuple[int, ...]:
        stated = str(meta.get("version", "?"))
        version = tuple(int(part) for part in stated.split("-")[0].split(".")[:3] if part.isdigit())
        if version < OLDEST:
            raise self._too_old(f"it is release {stated}")
        return version

    def _too_old(self, found: str) -> RagAssetsError:
        return RagAssetsError(
            f"Weaviate at {self.settings.url} is too old: {found}. {'.'.join(map(str, OLDEST))} or later is needed, for its "
            "aliases. Upgrade the server, or set store = 'pgvector'."
        )

    def _unreachable(self, error: Exception, seconds: float | None) -> RagAssetsError:
        waited = seconds or self.settings.query_seconds
        reason = str(error).strip().rstrip(".") or type(error).__name__
        return RagAssetsError(
            f"Weaviate at {self.settings.url} can't be reached within {waited:g} s: {reason}. Check that it runs, correct "
            "weaviate.url, or raise weaviate.query_seconds."
        )

    def _check_grpc(self) -> None:
        import grpc
        from grpc_health.v1 import health_pb2, health_pb2_grpc

        host, port, secure = self._grpc
        target, seconds = f"{host}:{port}", self.settings.connect_seconds
        made = grpc.secure_channel(target, grpc.ssl_channel_credentials()) if secure else grpc.insecure_channel(target)
        try:
            with made as channel:
                answer = health_pb2_grpc.HealthStub(channel).Check(
                    health_pb2.HealthCheckRequest(), timeout=seconds, wait_for_ready=True
                )
        except grpc.RpcError as error:
            raise RagAssetsError(
                f"Weaviate's gRPC address {target} did not answer within {seconds:g} s ({error.code().name}), though "
                f"{self.settings.url} does. Correct weaviate.grpc_host, grpc_port or grpc_secure, or open the port."
            ) from None
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            raise RagAssetsError(f"Weaviate's gRPC address {target} is not ready to serve. Try again when it is.")

    @contextmanager
    def explained(self, what: str, *, seconds: float | None = None) -> Iterator[None]:
        """Say in words for people what went wrong when we asked the server to ``what``."""
        import httpx
        from weaviate.exceptions import (
            UnexpectedStatusCodeError,
            WeaviateBaseError,
            WeaviateConnectionError,
            WeaviateGRPCUnavailableError,
            WeaviateStartUpError,
            WeaviateTimeoutError,
        )

        url = self.settings.url
        try:
            yield
        except UnexpectedStatusCodeError as error:
            if error.status_code in (401, 403):
                raise self._refused() from None
            raise RagAssetsError(f"Weaviate at {url} refused to {what}: {error.message}") from error
        except WeaviateStartUpError as error:
            if "not supported" in str(error):  # the client's own floor, below ours
                raise self._too_old(str(error)) from None
            raise self._unreachable(error, seconds) from error
        except (
            WeaviateConnectionError,
            WeaviateGRPCUnavailableError,
            WeaviateTimeoutError,
            httpx.HTTPError,
        ) as error:
            raise self._unreachable(error, seconds) from error
        except WeaviateBaseError as error:
            text = str(error)
            if "UNAUTHENTICATED" in text or "unauthorized" in text.lower():
                raise self._refused() from None
            raise RagAssetsError(f"Weaviate at {url} failed to {what}: {text}") from error

    def _refused(self) -> ConfigurationError:
        name = self.settings.api_key_env
        cure = f"Correct the key in {name}." if name else "Set weaviate.api_key_env to the variable that holds a key."
        return ConfigurationError(f"Weaviate at {self.settings.url} refuses our credentials. {cure}")


def _key(settings: WeaviateSettings) -> str | None:
    name = settings.api_key_env
    if name is None:
        return None
    key = os.environ.get(name, "").strip()
    if not key:
        raise ConfigurationError(
            f"weaviate.api_key_env names the environment variable {name}, which is not set. Set it to the server's API key."
        )
    return key
