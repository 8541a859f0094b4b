"""Settings of the Weaviate store."""

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from rag_assets.settings.sections import Section


class WeaviateSettings(Section):
    """A Weaviate server, 1.32 or later, and how it is used."""

    url: str = "http://localhost:8080"
    """Its REST address."""
    grpc_host: str | None = None
    """Host of its gRPC address; None: that of ``url``."""
    grpc_port: int = Field(50051, ge=1, le=65535)
    grpc_secure: bool | None = None
    """TLS for gRPC; None: as ``url``."""
    api_key_env: str | None = Field(None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Name of the environment variable that holds the API key, never the key. None: anonymous access."""
    prefix: str = Field("RagAssets", pattern=r"^[A-Z][A-Za-z0-9]{0,30}$")
    """What the names of our collections and aliases begin with; what begins otherwise is never touched."""
    multi_tenancy: bool = False
    """Make collections multi-tenant: the tenant is the collection's name here. A change builds a new index."""
    replication_factor: int = Field(1, ge=1, le=20)
    """Copies of every object. A change builds a new index."""
    consistency_level: Literal["ONE", "QUORUM", "ALL"] = "QUORUM"
    """How many of the copies must confirm a write, or be asked for a read by id."""
    connect_seconds: float = Field(5, gt=0, le=60)
    query_seconds: float = Field(10, gt=0, le=20)
    insert_seconds: float = Field(60, gt=0, le=600)
    """Longest wait for one batch."""
    batch_size: int = Field(200, ge=1, le=2000)
    """Objects sent at once."""
    attempts: int = Field(3, ge=1, le=10)
    """How often an object that was refused is sent before the run fails."""

    @field_validator("url")
    @classmethod
    def _an_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
            raise ValueError("must look like http://host:8080 or https://host, without user or password")
        return value.rstrip("/")
