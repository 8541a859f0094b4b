"""JSON and XML: data made readable."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rag_assets.documents.draft import Block, Draft
from rag_assets.documents.guards import check_text, is_out_of_memory
from rag_assets.documents.normalise import decode_text
from rag_assets.errors import UnparsableDocument

_LONGEST_PATH = 200
"""Characters of a path shown before a value; keeps deep or hostile keys from multiplying the text."""
_TITLE_KEYS = ("title", "name", "heading")


def read_json(data: bytes, max_characters: int) -> Draft:
    """Any JSON file as ``path: value`` lines, one element per record; unstructured's own element lists as they are."""
    check_text(data)
    try:
        value = json.loads(decode_text(data))
    except json.JSONDecodeError as error:
        raise UnparsableDocument(f"is not valid JSON: {error}") from None
    if _is_element_list(value):
        return Draft(_stored_elements(value))
    return Draft(_records(value), _title_of(value))


def read_jsonl(data: bytes, max_characters: int) -> Draft:
    """JSON Lines: one element per line."""
    check_text(data)

    def blocks() -> Iterator[Block]:
        for number, line in enumerate(decode_text(data).split("\n"), 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except json.JSONDecodeError as error:
                raise UnparsableDocument(f"line {number} is not valid JSON: {error}") from None
            yield Block("Text", _lines(value, ""))

    return Draft(blocks())


def _is_element_list(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, dict) and {"type", "element_id", "text"} <= item.keys() for item in value)
    )


def _stored_elements(items: Iterable[Mapping[str, Any]]) -> Iterator[Block]:
    for item in items:
        metadata = item.get("metadata") or {}
        kind = str(item["type"])
        level = int(metadata.get("category_depth") or 0) + 1 if kind == "Title" else None
        yield Block(kind, str(item["text"]), level, metadata.get("page_number"))


def _title_of(value: Any) -> str:
    found = (value.get(key) for key in _TITLE_KEYS) if isinstance(value, dict) else ()
    return next((item for item in found if isinstance(item, str)), "")


def _records(value: Any) -> Iterator[Block]:
    """One block per item of the outermost list or object; scalar members of an object stay together."""
    if isinstance(value, list):
        scalars = all(not isinstance(item, dict | list) for item in value)
        yield from [Block("Text", _lines(value, ""))] if scalars else (Block("Text", _lines(v, "")) for v in value)
    elif isinstance(value, dict):
        flat = {key: item for key, item in value.items() if not isinstance(item, dict | list)}
        yield Block("Text", _lines(flat, ""))
        for key, item in value.items():
            if isinstance(item, list) and any(isinstance(entry, dict | list) for entry in item):
                yield from (Block("Text", _lines(entry, key)) for entry in item)
            elif isinstance(item, dict | list):
                yield Block("Text", _lines(item, key))
    else:
        yield Block("Text", _lines(value, ""))


def _lines(value: Any, path: str) -> str:
    """``value`` as ``path: value`` lines; a list of scalars is one line. Iterative: JSON may be nested deeply."""
    lines: list[str] = []
    pending = [(path, value)]
    while pending:
        where, item = pending.pop()
        if isinstance(item, dict):
            pending.extend((_joined(where, str(key)), entry) for key, entry in reversed(item.items()))
        elif isinstance(item, list) and any(isinstance(entry, dict | list) for entry in item):
            pending.extend((_joined(where, str(index)), entry) for index, entry in reversed([*enumerate(item)]))
        else:
            text = ", ".join(filter(None, map(_scalar, item))) if isinstance(item, list) else _scalar(item)
            if text:
                lines.append(f"{where}: {text}" if where else text)
    return "\n".join(lines)


def _joined(path: str, key: str) -> str:
    return f"{path}.{key}"[-_LONGEST_PATH:] if path else key[:_LONGEST_PATH]


def _scalar(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def read_xml(data: bytes, max_characters: int) -> Draft:
    """Any XML file: mixed content as paragraphs, records as ``tag: value`` lines. Entities are not expanded."""
    from lxml import etree

    if not data.startswith((b"\xff\xfe", b"\xfe\xff")):
        check_text(data)
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        if is_out_of_memory(error):
            raise
        raise UnparsableDocument(f"is not well-formed XML: {error}") from None
    # A title of the document is a child of its root (or of a head in it); deeper ones name its parts.
    title = root.find("{*}title") if root.find("{*}title") is not None else root.find("{*}head/{*}title")
    return Draft(_xml_blocks(root), "" if title is None else " ".join("".join(title.itertext()).split()))


def _xml_blocks(root: Any) -> Iterator[Block]:
    pending = [root]
    while pending:
        node = pending.pop()
        if not isinstance(node.tag, str):
            continue
        children = [child for child in node if isinstance(child.tag, str)]
        if not children or _has_own_text(node):
            yield Block("Text", _text(node))
        elif len(children) > 1 and all(len(child) == 0 for child in children) and _differ(children):
            values = ((_name(child), _text(child)) for child in children)
            yield Block("Text", "\n".join(f"{name}: {value}" for name, value in values if value))
        else:
            pending.extend(reversed(children))


def _has_own_text(node: Any) -> bool:
    return bool((node.text or "").strip()) or any((child.tail or "").strip() for child in node)


def _differ(children: list[Any]) -> bool:
    return len({child.tag for child in children}) == len(children)


def _text(node: Any) -> str:
    return " ".join("".join(node.itertext()).split())


def _name(node: Any) -> str:
    return str(node.tag).rpartition("}")[2]
