"""How sources that are not folders are reached."""

from pydantic import Field, field_validator

from rag_assets.settings.sections import Section


class SourcesSettings(Section):
    """How sources that are not folders are reached."""

    allow_hosts: tuple[str, ...] = ()
    """Hosts, as the URLs spell them, that may have private, loopback or other addresses that are not public."""
    timeout_seconds: float = Field(30, gt=0, le=3600)
    """Longest time for one request, its body included; a repository's fetch may take ten times that."""
    max_redirects: int = Field(5, ge=0, le=20)
    """Redirects followed from one page; each target is checked as the page was."""


class SourceOptions(Section):
    """How a collection's object store is reached. Credentials are never settings: they come from the environment."""

    endpoint_url: str | None = None
    """Server to ask instead of the provider's own (MinIO, Ceph …); ``AWS_ENDPOINT_URL`` says the same for all."""
    region: str | None = None
    """S3 only; default: ``AWS_REGION``, else ``us-east-1``."""
    profile: str | None = None
    """S3 only: section of the AWS configuration files (``AWS_PROFILE``)."""
    account: str | None = None
    """Azure only: the storage account (``AZURE_STORAGE_ACCOUNT_NAME``)."""
    anonymous: bool = False
    """Ask without credentials: a public bucket."""

    @field_validator("endpoint_url")
    @classmethod
    def _endpoint(cls, value: str | None) -> str | None:
        if value is not None and (not value.startswith(("http://", "https://")) or "@" in value):
            raise ValueError("must be http(s)://HOST[:PORT], without credentials")
        return value
