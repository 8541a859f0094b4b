"""Cut the sample corpus and its questions out of the original data, as ``selection.toml`` says."""

import re
import tomllib
import unicodedata
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

from sample_document import SampleDocument, read_lines, split_sentences

_EDITORIAL_NOTES = re.compile(r"\[(citation needed|update|vague|clarification needed|verification needed)\]")
_CANCER = re.compile(r"cancer|leukemia|tumor|neoplasm|glioma|thrombocythemia|polycythemia|myelofibrosis|castleman")
_INFECTION = re.compile(r"fever|virus|encephalitis|infection|hepatitis|nocardiosis|acinetobacter|acanthamoeba|kyasanur")
_METABOLISM = re.compile(r"diabetes|kidney|thyroid|cholangitis|digestive|celiac")

Question = dict[str, Any]


def extract(data: Path, selection_file: Path) -> tuple[list[SampleDocument], list[Question]]:
    """Documents and questions, both in a fixed order.

    Args:
        data: folder with ``medquad-mini``, ``xquad-en``, ``xquad-de`` and ``xquad-es``.
        selection_file: which parts to take.
    """
    selection = tomllib.loads(selection_file.read_text(encoding="utf-8"))
    formats = selection["formats"]
    pages = _medquad_documents(data, formats["pages"])
    articles = _article_documents(data, selection["article"], formats["passages"])
    translations = _translated_documents(data, selection["translation"], formats["passages"])
    documents = [*pages, *articles, *translations]
    by_path = {document.path: document for document in documents}
    copies = [
        replace(by_path[original], id=f"{by_path[original].id}-copy", path=path)
        for original, path in selection["duplicates"].items()
    ]
    documents += copies
    questions = [
        *_medquad_questions(data, pages, selection["medquad"], documents),
        *_article_questions(data, selection["article"], documents),
        *_translated_questions(data, selection["translation"], documents),
        *(
            {"id": f"none-{number:02}", "question": text, "relevant": [], "kind": "unanswerable"}
            for number, text in enumerate(selection["unanswerable"]["questions"], start=1)
        ),
    ]
    return documents, questions


def _clean(text: str) -> str:
    """One line, NFC, without Wikipedia's editorial notes; the subscript of O₂ back on its line."""
    text = unicodedata.normalize("NFC", text).replace("O\n2", "O2")
    return " ".join(_EDITORIAL_NOTES.sub("", text).split())


def _slug(title: str) -> str:
    words = re.findall(r"[^\W_]+", title.lower().replace("'", ""))
    while len("-".join(words)) > 60:
        words.pop()
    return "-".join(words)


def _document(
    id: str, title: str, sections: list[tuple[str, str]], folder: str, format: str, origin: str, language: str = "en"
) -> SampleDocument:
    # A PDF's built-in fonts have the characters of Windows-1252 only.
    if format == "pdf" and not _in_cp1252(title + "".join(heading + text for heading, text in sections)):
        format = "html"
    path = f"{folder}/{_slug(title)}.{format}"
    return SampleDocument(id, title, tuple(sections), language, origin, format, path)


def _in_cp1252(text: str) -> bool:
    try:
        text.encode("cp1252")
    except UnicodeEncodeError:
        return False
    return True


def _medquad_documents(data: Path, formats: list[str]) -> list[SampleDocument]:
    documents = []
    files = sorted((data / "medquad-mini" / "documents").iterdir())
    for file, format in zip(files, cycle(formats), strict=False):
        head, *parts = re.split(r"^## ", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
        title = head.removeprefix("# ").strip()
        title = title[0].upper() + title[1:]
        sections = [(part.split("\n", 1)[0].strip(), _clean(part.split("\n", 1)[1])) for part in parts]
        number = file.name.split("-")[0]
        documents.append(_document(f"qm{number[1:]}", title, sections, _area(title, sections), format, "medquad"))
    return documents


def _area(title: str, sections: list[tuple[str, str]]) -> str:
    """The folder of a health page, guessed from its title and headings."""
    headings = {heading for heading, _ in sections}
    lower = title.lower()
    if lower.startswith("parasites"):
        return "health/parasites"
    for pattern, folder in ((_CANCER, "cancer"), (_METABOLISM, "metabolism"), (_INFECTION, "infections")):
        if pattern.search(lower):
            return f"health/{folder}"
    if headings & {"Genetic Changes", "Inheritance"}:
        return "health/genetics"
    return "health/neurology" if "Research" in headings else "health/general"


def _passages(data: Path, language: str) -> dict[str, str]:
    folder = data / f"xquad-{language}" / "documents"
    return {
        file.name[:4]: _clean(file.read_text(encoding="utf-8").split("\n\n", 1)[1]) for file in sorted(folder.iterdir())
    }


def _asked(data: Path, language: str) -> dict[str, list[Question]]:
    """XQuAD's questions by passage."""
    asked: dict[str, list[Question]] = {}
    for row in read_lines(data / f"xquad-{language}" / "questions.jsonl"):
        asked.setdefault(row["relevant"][0]["document"][:4], []).append(row)
    return asked


def _article_documents(data: Path, articles: list[dict[str, Any]], formats: list[str]) -> list[SampleDocument]:
    texts = _passages(data, "en")
    next_format = cycle(formats)
    documents = []
    for article in articles:
        title, folder = article["title"], article["folder"]
        sections = [(passage["heading"], texts[passage["id"]]) for passage in article["passages"]]
        if "format" in article:
            documents.append(_document(_slug(title), title, sections, folder, article["format"], "xquad"))
            continue
        for passage, (heading, text) in zip(article["passages"], sections, strict=True):
            name = f"{title}: {heading}"
            documents.append(_document(passage["id"], name, [("", text)], folder, next(next_format), "xquad"))
    return documents


def _translated_documents(data: Path, translations: list[dict[str, Any]], formats: list[str]) -> list[SampleDocument]:
    texts = {language: _passages(data, language) for language in ("de", "es")}
    return [
        _document(
            f"{row['id']}-{row['language']}",
            row["title"],
            [("", texts[row["language"]][row["id"]])],
            f"encyclopedia/{row['language']}",
            format,
            "xquad",
            row["language"],
        )
        for row, format in zip(translations, cycle(formats), strict=False)
    ]


def _relevant(quote: str, documents: list[SampleDocument]) -> list[dict[str, str]]:
    """A label for every document that holds the quote, in any letter case."""
    return [
        {"document": document.path, "quote": quote}
        for document in documents
        if any(quote.casefold() in text.casefold() for _, text in document.sections)
    ]


def _medquad_questions(
    data: Path, pages: list[SampleDocument], rules: dict[str, Any], documents: list[SampleDocument]
) -> list[Question]:
    by_id = {page.id: page for page in pages}
    copies = {page.id: sum(other.text == page.text for other in documents) for page in pages}
    questions = []
    for row in read_lines(data / "medquad-mini" / "questions.jsonl"):
        if row["id"] in rules["drop"]:
            continue
        rewrite = rules["rewrite"].get(row["id"], {})
        sentences = _answering_sentences(_clean(row["answer"]))
        for position, sentence in enumerate(sentences):
            wanted = rewrite.get("quote", "")
            # A sentence may begin with the heading of a list that was run into it: the quote does not.
            quote = sentence[max(0, sentence.find(wanted)) :]
            if not 40 <= len(quote) <= 300 or wanted not in sentence:
                continue
            labels = _relevant(quote, documents)
            if len(labels) == copies[row["id"]] and labels[0]["document"] == by_id[row["id"]].path:
                answer = _answer([quote, *sentences[position + 1 :]], _clean(row["answer"]))
                question = rewrite.get("question") or _plain_question(row["question"])
                questions.append(_question(row["id"], question, answer, labels, "section"))
                break
        else:
            raise ValueError(f"{row['id']}: no sentence of its answer can be quoted; drop it or name another one.")
    return questions


def _answering_sentences(answer: str) -> list[str]:
    """The sentences before, between and in the items of an answer, without questions and the items' dashes."""
    return [
        sentence
        for part in re.split(r"(?:^|\s)- ", answer)
        for sentence in split_sentences(part.strip())
        if sentence and not sentence.endswith(("?", ":"))
    ]


def _answer(sentences: list[str], text: str) -> str:
    """The quote, and up to two sentences that follow it in ``text`` while the answer stays short."""
    answer = sentences[0]
    for sentence in sentences[1:3]:
        longer = f"{answer} {sentence}"
        if len(longer) > 400 or longer not in text:
            break
        answer = longer
    return answer


def _plain_question(question: str) -> str:
    """MedQuAD's questions are made from templates ("What is (are) X ?"): say them as a person would."""
    question = re.sub(r"[\s?]+$", "?", question)
    question = re.sub(r"Parasites - | \(also known as [^)]*\)", "", question)
    question = question.replace("What is (are)", "What is")
    question = re.sub(r"^How to diagnose (.*)\?$", r"How is \1 diagnosed?", question)
    return re.sub(r"^How to prevent (.*)\?$", r"How can \1 be prevented?", question)


def _quoting(row: Question, id: str, document_text: str, documents: list[SampleDocument], kind: str) -> Question:
    """A question whose quote is the whole sentence around its short answer."""
    short = _clean(row["answer"])
    quote = next(sentence for sentence in split_sentences(document_text) if short in sentence)
    return _question(id, row["question"].strip(), short, _relevant(quote, documents), kind)


def _article_questions(data: Path, articles: list[dict[str, Any]], documents: list[SampleDocument]) -> list[Question]:
    texts, asked = _passages(data, "en"), _asked(data, "en")
    return [
        _quoting(row := asked[passage["id"]][number], row["id"], texts[passage["id"]], documents, "factoid")
        for article in articles
        for passage in article["passages"]
        for number in passage["ask"]
    ]


def _translated_questions(
    data: Path, translations: list[dict[str, Any]], documents: list[SampleDocument]
) -> list[Question]:
    questions = []
    english = _asked(data, "en")
    for row in translations:
        language, id = row["language"], row["id"]
        text, asked = _passages(data, language)[id], _asked(data, language)[id]
        for number in row["ask"]:
            original = asked[number]
            questions.append(_quoting(original, f"{original['id']}-{language}", text, documents, "other-language"))
        for number in row["ask_english"]:
            found = _quoting(asked[number], f"{asked[number]['id']}-en", text, documents, "cross-lingual")
            wording = english[id][number]
            questions.append({**found, "question": wording["question"].strip(), "answer": wording["answer"]})
    return questions


def _question(id: str, question: str, answer: str, relevant: list[dict[str, str]], kind: str) -> Question:
    return {"id": id, "question": question, "answer": answer, "relevant": relevant, "kind": kind}
