import json

import pytest

from rag_assets.models import ParsedDocument
from rag_assets_tests.unit.documents.conftest import Parse, ReasonFor
from rag_assets_tests.unit.documents.making import epub, pdf, slides, word, workbook, zipped

PROSE = "The gravel path bent around a quiet pond where ducks were drifting in slow circles all morning."


def outline(document: ParsedDocument) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(element.kind, element.text, element.headings) for element in document.elements]


def kinds(document: ParsedDocument) -> list[tuple[str, str]]:
    return [(element.kind, element.text) for element in document.elements]


def test_html_keeps_headings_tables_code_and_what_a_reader_sees(parse: Parse) -> None:
    page = f"""<html lang="en"><head><title>Site</title><meta name="author" content="Ada"></head><body>
    <nav>Home | About</nav><h1>Guide</h1><p>{PROSE}</p>
    <h2>Install</h2><pre><code>def f():\n    return 1</code></pre>
    <table><tr><th>Name</th><th>Size</th></tr><tr><td>a b</td><td>2</td></tr></table>
    <h2>More</h2><details><summary>Question</summary><p>Answer inside details.</p></details>
    <figure><img src="x.png" alt="A duck"><figcaption>Caption of the figure.</figcaption></figure>
    <script>alert(1)</script></body></html>"""
    document = parse("page.html", page.encode())
    found = outline(document)
    assert found[0] == ("Title", "Guide", ("Guide",))
    assert ("CodeSnippet", "def f():\n    return 1", ("Guide", "Install")) in found
    assert ("Table", "Name | Size\na b | 2", ("Guide", "Install")) in found
    assert document.title == "Guide"
    assert document.metadata == {"title": "Site", "author": "Ada", "language": "en"}
    for shown in ("Question", "Answer inside details.", "A duck", "Caption of the figure."):
        assert shown in document.text
    for hidden in ("alert", "Home | About"):
        assert hidden not in document.text


def test_markdown_keeps_structure_and_front_matter_is_metadata(parse: Parse) -> None:
    text = """---
title: Front title
date: 2024-05-06
tags: [x, y]
---
Intro.

## Setup
- first
  ```python
  def f():
      pass
  ```

| A | B |
|---|---|
| 1 | 2 |
"""
    document = parse("note.md", text.encode())
    assert outline(document) == [
        ("Text", "Intro.", ()),
        ("Title", "Setup", ("Setup",)),
        ("ListItem", "first", ("Setup",)),
        ("CodeSnippet", "def f():\n    pass", ("Setup",)),
        ("Table", "A | B\n1 | 2", ("Setup",)),
    ]
    assert document.metadata == {"title": "Front title", "date": "2024-05-06", "tags": ["x", "y"]}


def test_the_title_is_the_first_heading_then_what_the_file_states_never_its_name(parse: Parse) -> None:
    assert parse("a.md", b"---\ntitle: Front\n---\n# Heading\n").title == "Heading"
    assert parse("a.md", b"---\ntitle: Front\n---\ntext\n").title == "Front"
    assert parse("folder/name.md", b"text\n").title == ""


def test_what_looks_like_a_tag_but_is_none_stays_in_the_text(parse: Parse) -> None:
    document = parse(
        "a.md", b"Write <your-name> in a List<String>, <b>not</b> <unk>.\n\n<placeholder>\n\n<div>shown</div>\n"
    )
    assert document.text == "Write <your-name> in a List<String>, not <unk>.\n\n<placeholder>\n\nshown"


def test_word_headings_come_from_styles_and_never_from_wording(parse: Parse) -> None:
    data = word(
        [
            ("Title", "Handbook"),
            ("Heading 1", "Leave"),
            ("Heading 2", "Sick leave"),
            ("Normal", "Important Notice"),
            ("List Bullet", "call in"),
            ("Heading 1", "Travel"),
        ],
        [["Class", "Limit"], ["Rail", "100"]],
    )
    document = parse("handbook.docx", data)
    assert outline(document) == [
        ("Title", "Handbook", ("Handbook",)),
        ("Title", "Leave", ("Leave",)),
        ("Title", "Sick leave", ("Leave", "Sick leave")),
        ("Text", "Important Notice", ("Leave", "Sick leave")),
        ("ListItem", "call in", ("Leave", "Sick leave")),
        ("Title", "Travel", ("Travel",)),
        ("Table", "Class | Limit\nRail | 100", ("Travel",)),
    ]
    assert document.metadata["author"] == "Ada"


def test_text_in_content_controls_boxes_and_formulas_of_word_is_not_lost(parse: Parse) -> None:
    import io

    import docx
    from docx.oxml import parse_xml

    document = docx.Document()
    names = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    math = 'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'
    box = "<w:txbxContent><w:p><w:r><w:t>Inside the box.</w:t></w:r></w:p></w:txbxContent>"
    for xml in (
        f"<w:sdt {names}><w:sdtContent><w:p><w:r><w:t>Inside the control.</w:t></w:r></w:p></w:sdtContent></w:sdt>",
        f"<w:p {names}><w:r><w:pict>{box}</w:pict></w:r></w:p>",
        f"<w:p {names} {math}><w:r><w:t>Energy </w:t></w:r><m:oMath><m:r><m:t>E=mc</m:t></m:r></m:oMath></w:p>",
    ):
        document.element.body.insert(0, parse_xml(xml))
    buffer = io.BytesIO()
    document.save(buffer)
    text = parse("a.docx", buffer.getvalue()).text
    assert sorted(text.split("\n\n")) == ["Energy E=mc", "Inside the box.", "Inside the control."]


def test_slides_have_their_title_number_notes_and_charts(parse: Parse) -> None:
    document = parse("deck.pptx", slides())
    found = [(element.page, element.headings, element.text) for element in document.elements]
    assert found == [
        (1, ("Quarterly results",), "Quarterly results"),
        (1, ("Quarterly results",), "Revenue grew by a fifth."),
        (1, ("Quarterly results",), "Mention the new office."),
        (2, (), "A slide that has no title."),
        (3, ("Ducks by year",), "Ducks by year"),
        (3, ("Ducks by year",), "| Mallards\n2019 | 120\n2020 | 130"),
    ]
    assert document.metadata["slides"] == 3


def test_sheets_keep_values_as_written_and_are_parted_at_empty_rows(parse: Parse) -> None:
    rows: list[list[object]] = [["Report"], [], [None, "Id", "Rate"], [None, "007", 1.5], [None, 12345678901234, 2.0]]
    document = parse("book.xlsx", workbook({"Prices": rows, "Empty": [], "Other": [["x", "y"]]}))
    assert [(element.kind, element.page, element.headings, element.text) for element in document.elements] == [
        ("Title", 1, ("Prices",), "Prices"),
        ("Text", 1, ("Prices",), "Report"),
        ("Table", 1, ("Prices",), "Id | Rate\n007 | 1.5\n12345678901234 | 2"),
        ("Title", 3, ("Other",), "Other"),
        ("Table", 3, ("Other",), "x | y"),
    ]
    assert document.title == ""
    assert document.metadata["sheets"] == ["Prices", "Empty", "Other"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimited_files_are_tables_whatever_their_delimiter(parse: Parse, delimiter: str) -> None:
    rows = [["id", "name", "note"], ["007", '"Smith, John"', ""], ["1.10", "b", "line"]]
    data = "\r\n".join(delimiter.join(row) for row in rows)
    document = parse("table.csv", data.encode())
    assert kinds(document) == [("Table", "id | name | note\n007 | Smith, John\n1.10 | b | line")]


def test_pdf_text_has_pages_joined_lines_and_the_headings_of_its_outline(parse: Parse) -> None:
    lines = ["Leave policy", "Every employee may take thirty days of leave in a calendar year, and", "five more."]
    document = parse("a.pdf", pdf([lines, ["On the second page."]], outline=[("Leave policy", 0)]))
    assert [(element.page, element.headings, element.text) for element in document.elements] == [
        (1, ("Leave policy",), "Leave policy"),
        (1, ("Leave policy",), " ".join(lines[1:])),
        (2, ("Leave policy",), "On the second page."),
    ]
    assert document.metadata["pages"] == 2


def test_rst_sections_code_and_sphinx_markup_are_kept_and_includes_are_not_read(parse: Parse) -> None:
    text = """Guide
=====

See :ref:`the install page <install>` now.

.. include:: /etc/passwd
.. raw:: html

   <p>raw</p>

.. versionadded:: 3.2
   New in this release.

Usage
-----

.. code-block:: python

   def f():
       return 1
"""
    document = parse("a.rst", text.encode())
    assert ("CodeSnippet", "def f():\n    return 1", ("Guide", "Usage")) in outline(document)
    assert "See the install page now." in document.text
    assert "New in this release." in document.text
    assert "root:" not in document.text
    assert "raw" not in document.text


def test_a_book_is_read_in_the_order_of_its_spine(parse: Parse) -> None:
    document = parse("a.epub", epub({"z": "<h1>One</h1><p>First chapter.</p>", "a": "<h1>Two</h1><p>Second one.</p>"}))
    assert [element.text for element in document.elements] == ["One", "First chapter.", "Two", "Second one."]
    assert document.metadata == {"title": "A Book", "authors": ["Ada"]}


def test_a_message_has_its_subject_as_heading_and_names_its_attachments(parse: Parse) -> None:
    from email.message import EmailMessage

    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = "Büro closed", "Ada <ada@example.com>", "all@example.com"
    message["Date"] = "Tue, 02 Jan 2024 10:00:00 +0100"
    message.set_content("The office is closed on Friday.")
    message.add_alternative("<p>HTML twin of the text.</p>", subtype="html")
    message.add_attachment(b"secret,data", maintype="text", subtype="csv", filename="list.csv")
    document = parse("a.eml", bytes(message))
    assert outline(document) == [
        ("Title", "Büro closed", ("Büro closed",)),
        ("NarrativeText", "The office is closed on Friday.", ("Büro closed",)),
    ]
    assert document.metadata == {
        "subject": "Büro closed",
        "from": "Ada <ada@example.com>",
        "to": "all@example.com",
        "sent": "2024-01-02T10:00:00+01:00",
        "attachments": ["list.csv"],
    }


def test_a_message_without_plain_text_is_read_from_its_html(parse: Parse) -> None:
    mail = b"Subject: Hi\nContent-Type: text/html\n\n<h2>Part</h2><p>Only HTML here.</p>"
    assert outline(parse("a.eml", mail))[1:] == [
        ("Title", "Part", ("Hi", "Part")),
        ("Text", "Only HTML here.", ("Hi", "Part")),
    ]


def test_json_is_shown_as_paths_and_values(parse: Parse) -> None:
    value = {"title": "Config", "limits": {"cpu": 2, "tags": ["a", "b"]}, "users": [{"id": 1}, {"id": 2, "x": None}]}
    document = parse("a.json", json.dumps(value).encode())
    assert [element.text for element in document.elements] == [
        "title: Config",
        "limits.cpu: 2\nlimits.tags: a, b",
        "users.id: 1",
        "users.id: 2",
    ]
    assert document.title == "Config"
    assert parse("a.jsonl", b'{"a": 1}\n\n{"a": "b"}\n').text == "a: 1\n\na: b"


def test_element_lists_that_unstructured_wrote_keep_their_kinds(parse: Parse) -> None:
    items = [
        {"type": "Title", "element_id": "1", "text": "Head", "metadata": {"page_number": 2, "category_depth": 0}},
        {"type": "ListItem", "element_id": "2", "text": "item", "metadata": {}},
    ]
    document = parse("a.json", json.dumps(items).encode())
    assert outline(document) == [("Title", "Head", ("Head",)), ("ListItem", "item", ("Head",))]
    assert document.elements[0].page == 2


def test_xml_keeps_mixed_content_whole_and_names_the_values_of_records(parse: Parse) -> None:
    xml = "<r><row><id>1</id><name>Bob</name></row><p>Mixed <b>content</b> stays whole.</p></r>"
    assert [element.text for element in parse("a.xml", xml.encode()).elements] == [
        "id: 1\nname: Bob",
        "Mixed content stays whole.",
    ]


def test_plain_text_headings_are_taken_only_when_text_follows(parse: Parse) -> None:
    text = f"Garden Notes\n\n{PROSE}\n\nLoose Words\n\nMore Loose Words\n\nNot a heading:\n\n{PROSE}"
    headings = [element.text for element in parse("a.txt", text.encode()).elements if element.kind == "Title"]
    assert headings == ["Garden Notes"]


def test_long_plain_text_is_split_at_blank_lines_without_classifying(parse: Parse) -> None:
    text = f"Heading\n\n{PROSE}\n\n" * 12_000
    document = parse("a.txt", text.encode())
    assert {element.kind for element in document.elements} == {"NarrativeText"}
    assert len(document.elements) == 24_000


def test_a_heading_as_long_as_a_paragraph_is_text(parse: Parse) -> None:
    document = parse("a.html", f"<h1>{PROSE * 3}</h1><p>Body.</p>".encode())
    assert [element.headings for element in document.elements] == [(), ()]


def test_words_of_more_than_ten_thousand_characters_are_cut(parse: Parse) -> None:
    for name, data in {"a.docx": word([("Normal", "a" * 50_000)]), "a.txt": b"a" * 50_000}.items():
        assert max(map(len, parse(name, data).text.split())) == 10_000


def test_a_zip_that_is_no_book_is_named_as_such(reason_for: ReasonFor) -> None:
    assert "not a complete EPUB" in reason_for("a.epub", zipped({"a.txt": "text"}))
