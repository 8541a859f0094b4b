"""Pages are fetched from public addresses only, through every redirect, within limits of size and time."""

import socket
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from rag_assets.documents.parsing import ParserPool
from rag_assets.documents.source import FileUnreadable
from rag_assets.documents.sources import SourceUnavailable
from rag_assets.documents.sources.addresses import AddressRefused, is_public, public_address
from rag_assets.documents.sources.fetching import Fetcher
from rag_assets.documents.sources.pages import PagesSource, page_path
from rag_assets.errors import ConfigurationError, UnparsableDocument
from rag_assets.settings import SourcesSettings
from rag_assets_tests.source_servers import Page, PageServer, page_server

ALLOWED = SourcesSettings(allow_hosts=("127.0.0.1",), timeout_seconds=5)


def reason(url: str, settings: SourcesSettings = ALLOWED) -> str:
    """Why a page can't be read."""
    with pytest.raises(FileUnreadable) as error:
        PagesSource([url], settings).read(page_path(url), 10_000)
    return str(error.value)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.100.100.200", "0.0.0.0",
        "168.63.129.16", "192.0.0.192", "224.0.0.1", "255.255.255.255", "240.0.0.1", "::", "::1", "fe80::1", "fe80::1%eth0",
        "fd00:ec2::254", "fec0::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "::127.0.0.1", "64:ff9b::7f00:1",
        "2002:7f00:1::", "2001:db8::1", "no address",
    ],
)  # fmt: skip
def test_an_address_that_is_not_public_is_known_in_every_form(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"])
def test_a_public_address_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "localhost", "0", "::1"]
)
def test_a_host_is_judged_by_what_it_resolves_to(host: str) -> None:
    with pytest.raises(AddressRefused, match="allow_hosts"):
        public_address(host, 80)
    assert public_address(host, 80, [host.upper()])


def test_a_page_of_a_loopback_address_is_asked_for_only_where_its_host_is_allowed_by_name(web: PageServer) -> None:
    web.pages["/a.md"] = Page(b"words")
    port = web.host.rpartition(":")[2]
    for host in (web.host, f"localhost:{port}", f"2130706433:{port}"):
        assert "not public" in reason(f"http://{host}/a.md", SourcesSettings())
    assert web.asked == []
    assert PagesSource([web.url("/a.md")], ALLOWED).read(page_path(web.url("/a.md")), 100).data == b"words"


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("http://169.254.169.254/latest/meta-data/", "169.254.169.254, which is not public"),
        ("http://[::ffff:169.254.169.254]/", "not public"),
        ("http://localhost:1/", "not public"),
        ("file:///etc/passwd", "to file://"),
        ("ftp://127.0.0.1/a", "to ftp://"),
        ("http://user:secret@127.0.0.1/", "user name"),
        ("/r", "max_redirects = 5"),
    ],
)
def test_a_redirect_is_checked_like_the_page_itself(web: PageServer, target: str, said: str) -> None:
    web.pages["/r"] = Page(status=302, headers={"Location": target})
    found = reason(web.url("/r"))
    assert said in found
    assert "secret" not in found


def test_a_redirect_to_what_is_allowed_is_followed(web: PageServer) -> None:
    web.pages |= {"/r": Page(status=301, headers={"Location": "b.html"}), "/b.html": Page(b"<p>words</p>")}
    assert PagesSource([web.url("/r")], ALLOWED).read(page_path(web.url("/r")), 100).data == b"<p>words</p>"


def drip(handler: BaseHTTPRequestHandler) -> None:
    """A byte at a time, for ever: no single wait is long."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    _until_hung_up(handler, b"x", 0.05)


def drip_headers(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    _until_hung_up(handler, b"x", 0.05)


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    _until_hung_up(handler, b"x" * 65536, 0)


def truncated(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    handler.close_connection = True


def _until_hung_up(handler: BaseHTTPRequestHandler, block: bytes, pause: float) -> None:
    handler.close_connection = True
    try:
        while True:
            handler.wfile.write(block)
            time.sleep(pause)
    except OSError:
        pass


@pytest.mark.parametrize("send", [drip, drip_headers])
def test_a_server_that_takes_its_time_is_given_up(web: PageServer, send: object) -> None:
    web.pages["/slow.md"] = Page(send=send)  # type: ignore[arg-type]
    settings = ALLOWED.model_copy(update={"timeout_seconds": 0.5})
    assert "timeout_seconds = 0.5" in reason(web.url("/slow.md"), settings)


def test_no_more_is_read_than_the_limit(web: PageServer) -> None:
    web.pages["/endless.md"] = Page(send=endless)
    web.pages["/large.md"] = Page(b"x" * 20_000)
    for path in ("/endless.md", "/large.md"):
        with pytest.raises(UnparsableDocument, match="max_file_mb"):
            PagesSource([web.url(path)], ALLOWED).read(page_path(web.url(path)), 10_000)


def test_an_answer_that_breaks_off_is_no_document(web: PageServer) -> None:
    web.pages["/half.md"] = Page(send=truncated)
    assert "broke off" in reason(web.url("/half.md"))


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_a_page_in_trouble_is_neither_there_nor_gone(web: PageServer, status: int) -> None:
    web.pages |= {"/a.md": Page(b"words"), "/b.md": Page(b"sorry", status)}
    source = PagesSource([web.url("/a.md"), web.url("/b.md")], ALLOWED)
    listing = source.listing()
    assert [file.uri for file in listing.files] == [f"{web.host}/a.md"]
    assert [(item.unreadable, str(status) in item.reason) for item in listing.skipped] == [(True, True)]
    assert source.is_there(f"{web.host}/b.md".encode())


def test_a_server_that_is_not_there_is_named(web: PageServer) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/a.md"
        with pytest.raises(SourceUnavailable, match=url):
            PagesSource([url], ALLOWED).listing()


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://Example.org/docs/leave.PDF", "example.org/docs/leave.PDF"),
        ("https://example.org", "example.org/index.html"),
        ("https://example.org/docs/", "example.org/docs/index.html"),
        ("https://example.org/leave", "example.org/leave.html"),
        ("https://example.org/leave?year=2", "example.org/leave?year=2.html"),
        ("https://example.org/a.pdf?v=2", "example.org/a?v=2.pdf"),
    ],
)
def test_a_page_is_named_by_host_and_path(url: str, name: str) -> None:
    assert page_path(url) == name.encode()


def test_two_urls_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="one name"):
        PagesSource(["http://example.org/a", "https://example.org/a"], ALLOWED)


def test_what_is_no_page_is_not_parsed_as_one(web: PageServer) -> None:
    web.pages["/download"] = Page(b"%PDF-1.7", headers={"Content-Type": "application/pdf"})
    with pytest.raises(UnparsableDocument, match="application/pdf"):
        PagesSource([web.url("/download")], ALLOWED).read(page_path(web.url("/download")), 100)


def test_the_connection_goes_to_the_very_address_that_was_checked(web: PageServer) -> None:
    """DNS rebinding: a name that has one address when it is checked, and another when it is asked for again."""
    port = int(web.host.rpartition(":")[2])
    web.pages["/a.md"] = Page(b"words")
    answers = ["127.0.0.1"]

    def changing(host: str, port: int) -> list[Any]:
        assert answers, "the name was resolved once more"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers.pop(0), port))]

    settings = SourcesSettings(allow_hosts=("pages.example.org",), timeout_seconds=2)
    with Fetcher(settings, changing).open("GET", f"http://pages.example.org:{port}/a.md") as response:
        assert b"".join(response.blocks) == b"words"
    assert web.asked == [("GET", "/a.md")]


def test_a_host_with_a_public_and_a_private_address_is_refused() -> None:
    def both(host: str, port: int) -> list[Any]:
        return [(0, 0, 0, "", (address, port)) for address in ("8.8.8.8", "10.0.0.1")]

    with pytest.raises(AddressRefused, match=r"10\.0\.0\.1"):
        public_address("example.org", 80, resolve=both)


def test_a_host_that_is_silent_is_not_waited_for_once_for_each_page(web: PageServer) -> None:
    paths = [f"/slow{number}.md" for number in range(60)]
    web.pages = {path: Page(send=drip_headers) for path in paths} | {"/a.md": Page(b"words")}
    silent = [web.url(path).replace("127.0.0.1", "localhost") for path in paths]
    settings = SourcesSettings(allow_hosts=("127.0.0.1", "localhost"), timeout_seconds=0.3)
    listing = PagesSource([*silent, web.url("/a.md")], settings).listing()
    assert [file.uri for file in listing.files] == [f"{web.host}/a.md"]
    assert len(listing.skipped) == 60
    assert len(web.asked) < 20


@pytest.fixture
def bystander() -> Iterator[PageServer]:
    """A server nobody has any reason to ask."""
    with page_server() as server:
        yield server


@pytest.mark.parametrize("name", ["page.html", "page.md", "feed.xml"])
def test_parsing_fetches_nothing_a_document_refers_to(bystander: PageServer, parsers: ParserPool, name: str) -> None:
    url = bystander.url
    text = {
        "page.html": f'<base href="{url("/")}"><link rel=stylesheet href="{url("/c.css")}"><script src="{url("/s.js")}"></script>'
        f'<img src="{url("/i.png")}"><iframe src="{url("/f")}"></iframe><object data="{url("/o")}"></object><p>Some words.</p>',
        "page.md": f"![picture]({url('/i.png')}) Some words. <img src='{url('/j.png')}'>\n",
        "feed.xml": f'<?xml version="1.0"?><?xml-stylesheet href="{url("/x.xsl")}"?>'
        f'<!DOCTYPE r SYSTEM "{url("/r.dtd")}"><r>Some words.</r>',
    }[name]
    try:
        found = parsers.parse(name, text.encode()).text
    except UnparsableDocument:
        found = "refused: Some words."
    assert "Some words." in found
    assert bystander.asked == []
