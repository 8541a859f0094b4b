"""HTML, and Markdown by way of HTML."""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from html import escape as html_escape
from typing import Any

from rag_assets.documents.draft import Block, Draft, cut_long_words
from rag_assets.documents.formats.elements import LANGUAGES, bare, blocks_of
from rag_assets.documents.guards import check_text
from rag_assets.documents.normalise import decode_text
from rag_assets.errors import UnparsableDocument

_FRONT_MATTER = re.compile(r"\A\s*---[ \t]*\r?\n(.*?)\r?\n(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_DECLARED_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]{2,40})", re.IGNORECASE)
_SHOWN_BLOCKS = ("details", "dialog", "fieldset", "figure", "form")
_WRAPPERS = ("a", "b", "big", "center", "div", "em", "font", "i", "small", "span", "strong", "u")
_TAG = re.compile(r"</?([a-zA-Z][\w:.-]*)[^<>]*>")
_HTML5 = frozenset(
    [
        "article",
        "aside",
        "audio",
        "bdi",
        "canvas",
        "data",
        "datalist",
        "details",
        "dialog",
        "figcaption",
        "figure",
        "footer",
        "header",
        "hgroup",
        "main",
        "mark",
        "meter",
        "nav",
        "output",
        "picture",
        "progress",
        "rp",
        "rt",
        "ruby",
        "search",
        "section",
        "slot",
        "source",
        "summary",
        "svg",
        "template",
        "time",
        "track",
        "video",
        "wbr",
    ]
)
_MAX_DEPTH = 200
"""Levels of nesting; libxml2 reads at most 255 without being told otherwise, and unstructured does not tell it."""
_META = ("author", "description", "keywords", "date")
_SHOWN_PARAGRAPHS = ("figcaption", "legend", "summary")


def read_html(data: bytes, max_characters: int) -> Draft:
    """An HTML page; ``<title>``, author and description go to the metadata."""
    check_text(data)
    return html_draft(_decode_html(data))


def read_markdown(data: bytes, max_characters: int) -> Draft:
    """CommonMark with tables and strike-through; a YAML front matter goes to the metadata."""
    check_text(data)
    text = decode_text(data)
    front, body = _split_front_matter(text)
    draft = html_draft(_markdown().render(cut_long_words(body)))
    return Draft(draft.blocks, str(front.get("title") or ""), front)


@cache
def _markdown() -> Any:
    """Making it takes as long as half a page of text."""
    from markdown_it import MarkdownIt

    markdown = MarkdownIt("commonmark", {"maxNesting": _MAX_DEPTH}).enable(["table", "strikethrough"])
    for kind in ("html_inline", "html_block"):
        markdown.add_render_rule(kind, _render_html)
    return markdown


def _render_html(renderer: Any, tokens: Sequence[Any], index: int, options: Any, env: Any) -> str:
    """HTML in Markdown as it is, but ``<your-name>`` or ``List<String>``, which is no HTML, as text."""
    from lxml.html.defs import tags

    def keep(match: re.Match[str]) -> str:
        name = match.group(1).lower()
        return match.group() if name in tags or name in _HTML5 else html_escape(match.group())

    return _TAG.sub(keep, tokens[index].content)


def html_draft(html: str) -> Draft:
    """What a string of HTML shows."""
    if not html.strip():
        return Draft(())
    from lxml import etree

    parser = etree.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, no_network=True, huge_tree=True)
    root = etree.fromstring(html.encode("utf-8", "replace"), parser)
    # The parser goes on without what is too deep, which would lose text in silence.
    if any("depth" in entry.message for entry in parser.error_log) or not _flatten(root):
        raise UnparsableDocument("is nested too deeply to be parsed")
    if root is None:
        return Draft(())
    title = " ".join("".join(node.itertext()) for node in root.iter("title"))
    metadata = {"title": title, **_meta(root)}
    return Draft(_blocks(root), title, metadata)


def _blocks(root: Any) -> Iterator[Block]:
    from lxml import etree
    from unstructured.partition.html import partition_html

    _show_everything(root)
    html = etree.tostring(root, encoding="unicode", method="html")
    return blocks_of(bare(partition_html)(text=html, languages=LANGUAGES))


def _show_everything(root: Any) -> None:
    """Rename what unstructured leaves out although a reader sees it, and drop embedded pictures."""
    for node in root.iter(*_SHOWN_BLOCKS):
        node.tag = "div"
    for node in root.iter(*_SHOWN_PARAGRAPHS):
        node.tag = "p"
    for node in root.iter("label"):
        node.tag = "span"
    for node in root.iter("img"):
        # Only the alternative text is wanted, and unstructured skips images without a source.
        node.set("src", "image")
        node.attrib.pop("data-src", None)


def _flatten(root: Any) -> bool:
    """Unwrap elements that only style or group, when there is more nesting than unstructured can walk by recursion.

    Pages with thousands of unclosed tags exist and look fine in a browser. False if too much nesting remains.
    """
    from lxml import etree

    if root is None or _depth(root) <= _MAX_DEPTH:
        return True
    etree.strip_tags(root, *_WRAPPERS)
    return _depth(root) <= _MAX_DEPTH


def _depth(root: Any) -> int:
    from lxml import etree

    depth = deepest = 0
    for event, _ in etree.iterwalk(root, events=("start", "end")):
        depth += 1 if event == "start" else -1
        deepest = max(deepest, depth)
    return deepest


def _meta(root: Any) -> dict[str, str]:
    stated = {(node.get("name") or "").lower(): node.get("content") or "" for node in root.iter("meta")}
    language = next((node.get("lang") for node in root.iter("html")), None)
    return {name: stated.get(name, "") for name in _META} | {"language": language or ""}


def _decode_html(data: bytes) -> str:
    """A byte order mark or valid UTF-8 wins over the declared encoding, which is often a leftover of a template."""
    import codecs

    declared = _DECLARED_CHARSET.search(data[:4096])
    if declared and not data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        try:
            data.decode("utf-8")
        except UnicodeDecodeError:
            name = declared[1].decode("ascii", "replace")
            try:
                codecs.lookup(name)
            except LookupError:
                return decode_text(data)
            return data.decode(name, "replace")
    return decode_text(data)


def _split_front_matter(text: str) -> tuple[dict[str, Any], str]:
    import yaml

    match = _FRONT_MATTER.match(text)
    if match is None:
        return {}, text
    try:
        front = yaml.safe_load(match[1])
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}, text
    return (front, text[match.end() :]) if isinstance(front, dict) else ({}, text)
