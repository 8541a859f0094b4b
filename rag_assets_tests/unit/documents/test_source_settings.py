"""What a collection's source may be, what is refused of it, and what trouble with a store is called."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from rag_assets.documents.sources import SourceUnavailable, open_source
from rag_assets.documents.sources.git import GitSource
from rag_assets.errors import ConfigurationError
from rag_assets.settings import CollectionSettings, SourcesSettings, load_settings
from rag_assets_tests.source_servers import CREDENTIALS, Page, PageServer, S3Server


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ('"docs"', Path("docs")),
        ('"s3://bucket/docs"', "s3://bucket/docs"),
        ('"S3://bucket"', "s3://bucket"),
        ('"https://example.org/a.html"', ("https://example.org/a.html",)),
        ('["https://example.org/a", "https://example.org/b"]', ("https://example.org/a", "https://example.org/b")),
        ('"git+https://example.org/r.git@main#docs"', "git+https://example.org/r.git@main#docs"),
    ],
)
def test_a_source_is_a_folder_a_url_or_a_list_of_pages(project: Path, written: str, kept: Any) -> None:
    (project / "rag_assets.toml").write_text(f"[collections.a]\nsource = {written}\n", encoding="utf-8")
    found = load_settings().collection("a").source
    assert found == (project / kept if isinstance(kept, Path) else kept)


def test_a_url_is_remembered_as_it_is(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_settings(source="s3://bucket/docs", collection="a", remember=True)
    assert json.loads((project / ".rag" / "collections.json").read_text()) == {"a": "s3://bucket/docs"}
    monkeypatch.setenv("RAG_SOURCE", "https://example.org/a.html")
    assert load_settings().collection("a").source == "s3://bucket/docs"
    assert load_settings().collection("default").source == ("https://example.org/a.html",)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("s4://bucket", ["s4://", "known are", "s3://", "git+https://"]),
        ("s3://", ["no host or bucket"]),
        ("s3://me:topsecret@bucket/docs", ["credentials belong into the environment"]),
        ("https://me:topsecret@example.org/a.html", ["credentials belong into the environment"]),
        ("git+ssh://git:topsecret@example.org/r.git", ["credentials belong into the environment"]),
        ("https://example.org/a.html?X-Amz-Signature=topsecret", ["signature, key or token"]),
        ("https://example.org/a.html?sig=topsecret", ["signature, key or token"]),
        ("s3://bucket/docs?endpoint=x", ["options"]),
        ("https://example.org/a b", ["percent-encode"]),
        ("https://example.org:99999999/", ["port"]),
        (["https://example.org/a", "s3://bucket"], ["http(s) URLs only"]),
        ([], ["names no page"]),
    ],
)
def test_a_source_that_can_not_be_is_refused_without_repeating_a_secret(
    project: Path, source: Any, said: list[str]
) -> None:
    (project / "rag_assets.toml").write_text(f"[collections.a]\nsource = {json.dumps(source)}\n", encoding="utf-8")
    with pytest.raises(ConfigurationError) as error:
        load_settings()
    for words in ("collections.a.source", *said):
        assert words in str(error.value)
    assert "topsecret" not in str(error.value)


def test_credentials_are_no_settings(project: Path) -> None:
    text = '[collections.a]\nsource = "s3://bucket"\n[collections.a.options]\naws_secret_access_key = "topsecret"\n'
    (project / "rag_assets.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match="no such setting; known here: account, anonymous") as error:
        load_settings()
    assert "topsecret" not in str(error.value)


def opened(source: Any, tmp_path: Path, **options: Any) -> Any:
    settings = CollectionSettings(source=source, options=options) if options else CollectionSettings(source=source)
    return open_source(settings, SourcesSettings(timeout_seconds=3), tmp_path)


def test_a_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'rag-assets\[objects\]'"):
        opened("s3://bucket", tmp_path)


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("credentials")
def test_a_server_that_is_not_there_is_named_and_keeps_what_is_indexed(tmp_path: Path) -> None:
    source = opened("s3://bucket/docs", tmp_path, endpoint_url="http://127.0.0.1:1")
    said = r"s3://bucket/docs can't be listed \(within sources\.timeout_seconds = 3\).*127\.0\.0\.1:1"
    with pytest.raises(SourceUnavailable, match=said):
        source.listing()
    assert source.is_there(b"a.md")


@pytest.mark.usefixtures("credentials")
def test_a_bucket_that_is_not_there_is_a_mistake_and_gives_no_second_look(s3: S3Server, tmp_path: Path) -> None:
    source = opened("s3://no-such-bucket", tmp_path, endpoint_url=s3.url)
    with pytest.raises(ConfigurationError, match=r"s3://no-such-bucket does not exist.*NoSuchBucket"):
        source.listing()
    assert source.is_there(b"a.md")


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied"])
def test_refused_credentials_are_said(web: PageServer, tmp_path: Path, code: str) -> None:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    web.pages["/bucket?list-type=2"] = Page(body, 403)
    with pytest.raises(ConfigurationError, match=rf"refuses our credentials.*{code}.*in the environment") as error:
        opened("s3://bucket", tmp_path, endpoint_url=web.url("")).listing()
    assert CREDENTIALS["AWS_SECRET_ACCESS_KEY"] not in str(error.value)


def test_options_are_for_stores() -> None:
    with pytest.raises(ValueError, match="object stores"):
        CollectionSettings(source="docs", options={"region": "eu-west-1"})


def test_a_repository_s_host_is_checked_too(tmp_path: Path) -> None:
    source = GitSource("git+http://127.0.0.1:1/r.git", SourcesSettings(), tmp_path)
    with pytest.raises(ConfigurationError, match=r"127\.0\.0\.1, which is not public"):
        source.listing()


def test_a_repository_s_redirect_is_not_followed(web: PageServer, tmp_path: Path) -> None:
    web.pages["/r.git/info/refs?service=git-upload-pack"] = Page(
        status=302, headers={"Location": web.url("/elsewhere")}
    )
    settings = SourcesSettings(allow_hosts=("127.0.0.1",))
    with pytest.raises(SourceUnavailable, match=web.url("/r.git")):
        GitSource(f"git+{web.url('/r.git')}", settings, tmp_path).listing()
    assert [path for _, path in web.asked] == ["/r.git/info/refs?service=git-upload-pack"]


@pytest.mark.parametrize("ref", ["--upload-pack=touch", "-x", "a b", "a:b"])
def test_a_ref_is_no_option_of_git(tmp_path: Path, ref: str) -> None:
    with pytest.raises(ConfigurationError, match="ref"):
        GitSource(f"git+https://example.org/r.git@{ref}", SourcesSettings(), tmp_path)
