"""Files made to break a parser: each ends parsed or quarantined with a reason, and nothing else happens."""

import http.server
import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rag_assets_tests.unit.documents.conftest import Parse, ReasonFor
from rag_assets_tests.unit.documents.making import pdf, word, zipped

CANARY = "canary-3f9a1c"


@pytest.fixture
def canary_server() -> Iterator[tuple[str, list[str]]]:
    """An address that records who asks for it."""
    asked: list[str] = []

    class Recorder(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(CANARY.encode())

        def log_message(self, *_: object) -> None:
            """Keep the output of the tests quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.txt", b"", "is empty"),
        ("a.txt", b" \n\t\r\n", "contains no text"),
        ("a.html", b"<html><body><script>x</script></body></html>", "contains no text"),
        ("a.txt", bytes(range(256)) * 20, "looks binary"),
        ("a.md", b"\x00\x01\x02abc" * 500, "looks binary"),
        ("a.csv", b"\x89PNG\r\n\x1a\nrest", "looks binary"),
        ("a.html", b"PK\x03\x04abc", "looks binary"),
        ("a.docx", b"hello", "is damaged"),
        ("a.docx", word([("Normal", "text")])[:2000], "is damaged"),
        ("a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "old binary Office format"),
        ("a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"), "password"),
        ("a.xlsx", zipped({"a.txt": "no workbook"}), "can't be parsed as .xlsx"),
        ("a.pdf", b"%PDF-1.7\ngarbage", "is damaged"),
        ("a.pdf", pdf([["text"]])[:300], "is damaged"),
        ("a.pdf", pdf([["secret"]], password="open sesame"), "password"),
        ("a.pdf", pdf([[]]), "no text layer"),
        ("a.json", b'{"a": ', "not valid JSON"),
        ("a.json", b"[" * 200_000 + b"]" * 200_000, "nested too deeply"),
        ("a.jsonl", b'{"a": 1}\nnonsense\n', "line 2"),
        ("a.xml", b"<a><b></a>", "not well-formed"),
        ("a.xml", b"<a>" * 100_000 + b"x" + b"</a>" * 100_000, "not well-formed"),
        ("a.html", b"<div>" * 100_000 + b"text", "nested too deeply"),
        ("a.html", b"<ul><li>" * 5_000 + b"text", "nested too deeply"),
        ("a.exe", b"text", "no supported format"),
    ],
)
def test_what_can_not_be_parsed_is_quarantined_with_its_reason(
    reason_for: ReasonFor, name: str, data: bytes, reason: str
) -> None:
    assert reason in reason_for(name, data)


@pytest.mark.parametrize("name", ["a.docx", "a.pptx", "a.xlsx", "a.epub"])
def test_a_zip_bomb_is_refused_by_what_its_directory_says(reason_for: ReasonFor, name: str) -> None:
    bomb = zipped({"word/document.xml": b"\0" * 201_000_000})
    assert len(bomb) < 1_000_000
    assert "inflates to 201 MB" in reason_for(name, bomb)


def test_a_zip_that_lies_about_its_size_inflates_no_further_than_it_says(reason_for: ReasonFor) -> None:
    true_size, stated = (5_000_000).to_bytes(4, "little"), (100).to_bytes(4, "little")
    liar = zipped({"META-INF/container.xml": b" " * 5_000_000}).replace(true_size, stated)
    assert "Bad CRC-32" in reason_for("a.epub", liar)


def test_a_zip_of_very_many_files_is_refused(reason_for: ReasonFor) -> None:
    assert "20,001 files" in reason_for("a.xlsx", zipped({str(index): b"" for index in range(20_001)}))


def test_entities_are_not_expanded(reason_for: ReasonFor, parse: Parse) -> None:
    laughs = "".join(f'<!ENTITY l{level} "{f"&l{level - 1};" * 10}">' for level in range(1, 10))
    bomb = f'<!DOCTYPE r [<!ENTITY l0 "lol">{laughs}]><r>&l9;</r>'.encode()
    assert "not well-formed" in reason_for("a.xml", bomb)
    assert len(parse("a.html", bomb).text) < 100


@pytest.mark.parametrize("name", ["a.xml", "a.html", "a.svg.xml", "a.eml", "a.rst", "a.md", "a.docx", "a.epub"])
def test_no_file_and_no_address_named_in_a_document_is_read(
    parse: Parse, tmp_path: Path, canary_server: tuple[str, list[str]], name: str
) -> None:
    address, asked = canary_server
    secret = tmp_path / "secret.txt"
    secret.write_text(CANARY)
    doctype = (
        f'<!DOCTYPE r [<!ENTITY file SYSTEM "file://{secret}"><!ENTITY web SYSTEM "{address}/e">'
        f'<!ENTITY % dtd SYSTEM "{address}/dtd"> %dtd;]>'
    )
    body = (
        f'<p>Harmless text.</p><img src="{address}/i"/><link rel="stylesheet" href="{address}/c"/>'
        f'<iframe src="file://{secret}"></iframe>'
    )
    container = '<c><rootfile full-path="b.opf"/></c>'
    package = (
        '<package><manifest><item id="a" href="a.xhtml" media-type="text/html"/></manifest>'
        '<spine><itemref idref="a"/></spine></package>'
    )
    contents: dict[str, str | bytes] = {
        "a.xml": f"{doctype}<r>Harmless text. &file;&web;</r>",
        "a.svg.xml": f'<r xmlns:xi="http://www.w3.org/2001/XInclude">Harmless text.<xi:include href="{secret}"/></r>',
        "a.html": f"<html><base href='{address}'>{body}</html>",
        "a.eml": f"Subject: x\nContent-Type: text/html\n\n{body}",
        "a.rst": (
            f"Harmless text.\n\n.. include:: {secret}\n\n.. csv-table::\n   :file: {secret}\n\n"
            f".. image:: {address}/i\n\n.. raw:: html\n   :url: {address}/raw\n"
        ),
        "a.md": f"Harmless text. ![x]({address}/i)\n\n{body}",
        "a.epub": zipped(
            {
                "META-INF/container.xml": container,
                "b.opf": package,
                "a.xhtml": f"{doctype}<html><body>{body}&file;&web;</body></html>",
            }
        ),
        "a.docx": _with_external_entity(doctype),
    }
    content = contents[name]
    text = parse(name, content if isinstance(content, bytes) else content.encode()).text
    assert "Harmless text." in text
    assert CANARY not in text
    assert asked == []


def _with_external_entity(doctype: str) -> bytes:
    """A Word document whose XML refers to a file and an address."""
    import zipfile

    archive = zipfile.ZipFile(io.BytesIO(word([("Normal", "Harmless text. HERE")])))
    parts = {entry: archive.read(entry) for entry in archive.namelist()}
    body = parts["word/document.xml"].decode().replace("HERE", "&file;&web;")
    declaration, _, rest = body.partition("?>")
    return zipped({**parts, "word/document.xml": f"{declaration}?>{doctype}{rest}"})


def test_damaged_mail_headers_are_normalised_and_not_fatal(parse: Parse) -> None:
    mail = (
        b"Subject: lone \xed\xa0\x80 surrogate \xff\nFrom: \xff\xfe\nTo: ,,,<\nDate: nonsense\n"
        b"Content-Type: text/plain; charset=no-such-charset\n\nThe caf\xe9 is open and the body was read.\n"
    )
    document = parse("a.eml", mail)
    assert "The café is open" in document.text
    assert document.metadata["sent"] == "nonsense"
    str(dict(document.metadata)).encode("utf-8")
    document.text.encode("utf-8")


def test_a_lone_nul_or_bad_byte_is_replaced_and_not_fatal(parse: Parse) -> None:
    assert parse("a.txt", b"Some ducks swim\x00 in the caf\xc3\xa9 pond\xff today.").text == (
        "Some ducks swim\ufffd in the café pond\ufffd today."
    )


@pytest.mark.parametrize("data", [(b"a" * 9_000 + b" ") * 1000, b"a1@b." * 180_000, b"1-" * 450_000, b"x" * 9_000_000])
def test_text_of_very_long_words_is_parsed_within_the_limits(parse: Parse, data: bytes) -> None:
    document = parse("a.txt", data)
    assert len(document.text) >= len(data.strip())
    # Not classified: that takes time with the square of the length of a word.
    assert {element.kind for element in document.elements} == {"NarrativeText"}


def test_unclosed_tags_by_the_thousand_lose_no_text(parse: Parse) -> None:
    page = b"".join(b"<p>Line %d.</p><font><b>" % number for number in range(600))
    assert [element.text for element in parse("a.html", page).elements] == [f"Line {n}." for n in range(600)]


def test_front_matter_that_unfolds_without_end_is_bounded(parse: Parse) -> None:
    aliases = "".join(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 12))
    document = parse("a.md", f"---\na0: &a0 [x, x]\n{aliases}---\nBody.\n".encode())
    assert document.text == "Body."
    assert len(str(document.metadata)) < 100_000


def test_printing_libraries_do_not_disturb_the_conversation(parse: Parse) -> None:
    # openpyxl warns and docutils reports on these; the next answer still belongs to the next question.
    parse("a.rst", b"Title\n==\n\n.. nosuchdirective::\n\ntext `\n")
    assert parse("a.csv", b"a,b").text == "a | b"


def test_file_names_full_of_quotes_and_line_breaks_are_only_names(parse: Parse) -> None:
    for name in ('it\'s "quoted" $(touch x).csv', r"line\nbreak.csv", "../../up.csv", os.fsdecode(b"bad\xff.csv")):
        assert parse(name, b"a,b").text == "a | b"
