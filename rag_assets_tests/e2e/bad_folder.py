"""A folder with everything a file system can hold against us, beside good documents that must be found all the same."""

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pypdfium2

GOOD = {
    "good/lighthouse.md": "# Lighthouse\n\nThe lighthouse keeper polishes the lens every morning at dawn.\n",
    "good/bakery.html": "<html><body><h1>Bakery</h1><p>Rye bread leaves the oven at four in the morning.</p></body></html>",
    "good/orchard.json": '{"title": "Orchard", "text": "Apple trees are pruned in February before the sap rises."}',
}
TWIN = "The copper kettle was forged by a travelling tinker in Ghent.\n"
LONG_NAME = "n" * 251 + ".txt"
"""255 bytes: as long as a name can be on every usual file system."""


class Sentence(NamedTuple):
    """What one file says, and how people see the file's name."""

    document: str
    text: str


FOUND = (
    Sentence("good/lighthouse.md", "The lighthouse keeper polishes the lens every morning at dawn."),
    Sentence("good/bakery.html", "Rye bread leaves the oven at four in the morning."),
    Sentence("good/orchard.json", "Apple trees are pruned in February before the sap rises."),
    Sentence("nul.txt", "Submarines dive below the thermocline to hide from sonar."),
    Sentence("surrogate.json", "Violins are varnished with amber and linseed oil."),
    Sentence("surrogate.eml", "The glacier retreated forty metres last summer."),
    Sentence("""it's a "quoted" name.txt""", "Falcons are trained with a lure and a leather glove."),
    Sentence("two\\nlines.txt", "The tram depot closes its gates at midnight."),
    Sentence("latin-\\xe9.txt", "Basalt columns form when lava cools slowly."),
    Sentence(LONG_NAME, "Beekeepers smoke the hive before lifting the frames."),
    Sentence("caf\u00e9.txt", "Espresso is pulled at nine bars of pressure."),
    Sentence("cafe\u0301.txt", "Chess clocks were invented for the London tournament of 1883."),
    Sentence("inside-link.txt", "The lighthouse keeper polishes the lens every morning at dawn."),
)
"""Every document that must be indexed, with a sentence only a few of them say."""

REFUSED: Mapping[str, str] = {
    "picture.xyz": ".xyz files are not supported",
    "README": "without an extension",
    "empty.txt": "is empty",
    "garbage.txt": "looks binary",
    "truncated.pdf": "damaged",
    "cut.docx": "damaged",
    "loop.txt": "symbolic link to itself",
    "loop-folder": "symbolic link to a folder",
    "outside.txt": "symbolic link to something outside the source",
    "dangling.txt": "does not exist",
    "pipe.txt": "is a pipe",
    "huge.txt": "parsing.max_characters is 10,000,000",
}
"""Words that the reason of each must have."""


def make_bad_folder(folder: Path) -> None:
    """Fill ``folder``."""
    root = os.fsencode(folder)
    for name, text in GOOD.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for name in ("twin-one.txt", "twin-two.txt"):
        (folder / name).write_text(TWIN, encoding="utf-8")
    by_document = {sentence.document: sentence.text for sentence in FOUND}
    (folder / "nul.txt").write_text(f"{by_document['nul.txt']}\n\x00Then\x00 they surface.\n", encoding="utf-8")
    (folder / "surrogate.json").write_text(
        f'{{"broken": "a lone \\ud800 surrogate and \\u0000", "text": "{by_document["surrogate.json"]}"}}',
        encoding="utf-8",
    )
    (folder / "surrogate.eml").write_bytes(
        b"From: Ann <ann@example.org>\nTo: Bob <bob@example.org>\nSubject: ice \xff\xfe =?utf-8?q?=ED=A0=80?=\n"
        b"X-Note: \xed\xa0\x80\n\n" + by_document["surrogate.eml"].encode() + b"\n"
    )
    names = {
        b"""it's a "quoted" name.txt""": by_document["""it's a "quoted" name.txt"""],
        b"two\nlines.txt": by_document["two\\nlines.txt"],
        b"latin-\xe9.txt": by_document["latin-\\xe9.txt"],
        LONG_NAME.encode(): by_document[LONG_NAME],
        "caf\u00e9.txt".encode(): by_document["caf\u00e9.txt"],
        "cafe\u0301.txt".encode(): by_document["cafe\u0301.txt"],
    }
    for raw, text in names.items():
        with open(os.path.join(root, raw), "w", encoding="utf-8") as file:
            file.write(text + "\n")
    _make_refused(folder)


def _make_refused(folder: Path) -> None:
    (folder / "picture.xyz").write_bytes(b"whatever")
    (folder / "README").write_text("No extension.\n", encoding="utf-8")
    (folder / "empty.txt").touch()
    (folder / "garbage.txt").write_bytes(bytes(range(256)) * 40)
    pdf = pypdfium2.PdfDocument.new()
    pdf.new_page(200, 200)
    whole = folder.parent / "whole.pdf"
    pdf.save(str(whole))
    (folder / "truncated.pdf").write_bytes(whole.read_bytes()[:60])
    with zipfile.ZipFile(folder.parent / "whole.docx", "w") as archive:
        archive.writestr("word/document.xml", "<w:document/>" * 100)
    (folder / "cut.docx").write_bytes((folder.parent / "whole.docx").read_bytes()[:80])
    (folder / "loop.txt").symlink_to("loop.txt")
    (folder / "loop-folder").symlink_to(".")
    outside = folder.parent / "outside.txt"
    outside.write_text("This must never be indexed: the vault opens with four zeros.\n", encoding="utf-8")
    (folder / "outside.txt").symlink_to(outside)
    (folder / "inside-link.txt").symlink_to("good/lighthouse.md")
    (folder / "dangling.txt").symlink_to("nowhere.txt")
    os.mkfifo(folder / "pipe.txt")
    (folder / "huge.txt").write_text("A line of a very long log file.\n" * 650_000, encoding="utf-8")
