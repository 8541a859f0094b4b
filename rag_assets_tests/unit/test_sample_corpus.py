"""The bundled sample corpus: its files come out of its source, and its labels are true."""

import json
import subprocess
import sys
import unicodedata
import zipfile
from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from rag_assets.documents.parsing import ParserPool
from rag_assets.settings import ParsingSettings

SAMPLE = Path(__file__).resolve().parents[2] / "evals" / "sample"
DOCUMENTS = SAMPLE / "documents"
FORMATS = {"csv", "docx", "eml", "epub", "html", "json", "md", "pdf", "pptx", "rst", "tsv", "txt", "xlsx", "xml"}


def lines_of(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (SAMPLE / name).read_text(encoding="utf-8").splitlines()]


def normalised(text: str) -> str:
    return " ".join(text.split()).casefold()


@pytest.fixture(scope="module")
def source() -> dict[str, dict[str, Any]]:
    return {unicodedata.normalize("NFC", row["path"]): row for row in lines_of("source.jsonl")}


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return files_under(DOCUMENTS)


@pytest.fixture(scope="module")
def questions() -> list[dict[str, Any]]:
    return lines_of("questions.jsonl")


def files_under(folder: Path) -> dict[str, bytes]:
    return {
        unicodedata.normalize("NFC", path.relative_to(folder).as_posix()): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def unpacked(data: bytes) -> Any:
    """The members of an archive (their compressed size depends on the machine's zlib), other files as they are."""
    if not data.startswith(b"PK"):
        return data
    with zipfile.ZipFile(BytesIO(data)) as archive:
        return [(entry.filename, entry.date_time, archive.read(entry)) for entry in archive.infolist()]


def test_rendering_the_source_again_gives_the_committed_files(files: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "documents"
    command = [sys.executable, str(SAMPLE / "build.py"), "render", "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    again = files_under(out)
    assert again.keys() == files.keys()
    assert [path for path in files if unpacked(again[path]) != unpacked(files[path])] == []


def test_rendering_never_overwrites_a_folder_that_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    command = [sys.executable, str(SAMPLE / "build.py"), "render", "--out", str(tmp_path)]
    refused = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert refused.returncode == 1
    assert "exists already" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_every_document_is_listed_and_none_is_empty(files: dict[str, bytes], source: dict[str, Any]) -> None:
    assert files.keys() == source.keys()
    assert min(len(data) for data in files.values()) > 0


def test_the_corpus_is_small_enough_to_bundle(files: dict[str, bytes]) -> None:
    assert 100 <= len(files) <= 300
    assert sum(len(data) for data in files.values()) < 6_000_000


def test_every_format_is_there_and_markdown_is_the_most_common(files: dict[str, bytes]) -> None:
    formats = Counter(path.rsplit(".", 1)[1] for path in files)
    assert formats.keys() == FORMATS
    assert min(formats.values()) >= 5
    assert formats.most_common(1)[0][0] == "md"


def test_some_documents_have_other_languages_and_names_outside_ascii(source: dict[str, Any]) -> None:
    assert {row["language"] for row in source.values()} == {"en", "de", "es"}
    assert sum(not path.isascii() for path in source) >= 2


def test_question_ids_are_unique(questions: list[dict[str, Any]]) -> None:
    assert [id for id, count in Counter(row["id"] for row in questions).items() if count > 1] == []


def test_there_are_enough_questions_with_documents_and_answers(questions: list[dict[str, Any]]) -> None:
    assert sum(bool(row["relevant"] and row["answer"]) for row in questions) >= 150


def test_some_questions_have_no_answer_in_the_corpus(questions: list[dict[str, Any]]) -> None:
    unanswerable = [row for row in questions if row["kind"] == "unanswerable"]
    assert 8 <= len(unanswerable) <= 10
    assert all(row["relevant"] == [] and "answer" not in row for row in unanswerable)


def test_a_quote_occurs_in_just_the_documents_it_is_labelled_with(
    questions: list[dict[str, Any]], source: dict[str, Any]
) -> None:
    texts = {
        path: normalised("\n".join([row["title"], *(part for section in row["sections"] for part in section)]))
        for path, row in source.items()
    }
    wrong = []
    for row in questions:
        for quote in {label["quote"] for label in row["relevant"]}:
            labelled = {label["document"] for label in row["relevant"] if label["quote"] == quote}
            holding = {path for path, text in texts.items() if normalised(quote) in text}
            if labelled != holding:
                wrong.append((row["id"], labelled ^ holding))
    assert wrong == []


def test_a_short_answer_lies_within_its_quote(questions: list[dict[str, Any]]) -> None:
    short = [row for row in questions if row["kind"] in ("factoid", "other-language")]
    assert [row["id"] for row in short if row["answer"] not in row["relevant"][0]["quote"]] == []


def test_copies_of_a_document_are_all_labelled(questions: list[dict[str, Any]], files: dict[str, bytes]) -> None:
    by_content: dict[bytes, set[str]] = {}
    for path, data in files.items():
        by_content.setdefault(data, set()).add(path)
    copies = [paths for paths in by_content.values() if len(paths) > 1]
    labels = [{label["document"] for label in row["relevant"]} for row in questions]
    assert len(copies) >= 2
    assert all(paths in labels for paths in copies)


def test_every_quote_is_found_in_the_parsed_text_of_its_document(
    questions: list[dict[str, Any]], files: dict[str, bytes]
) -> None:
    with ParserPool(ParsingSettings()) as pool:
        texts = {path: normalised(pool.parse(path, data).text) for path, data in files.items()}
    missing = [
        (row["id"], label["document"])
        for row in questions
        for label in row["relevant"]
        if normalised(label["quote"]) not in texts[label["document"]]
    ]
    assert missing == []
