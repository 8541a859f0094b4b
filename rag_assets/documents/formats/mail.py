"""E-mail messages."""

from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage, MIMEPart

from rag_assets.documents.draft import Block, Draft
from rag_assets.documents.formats.markup import html_draft
from rag_assets.documents.formats.text import text_blocks
from rag_assets.documents.normalise import decode_text, normalise_text


def read_eml(data: bytes, max_characters: int) -> Draft:
    """A message: its subject as heading, its plain text (or else HTML) body; attachments are named, not read."""
    message = message_from_bytes(data, policy=policy.default)
    subject = _header(message, "Subject")
    metadata = {
        "subject": subject,
        "from": _header(message, "From"),
        "to": _header(message, "To"),
        "cc": _header(message, "Cc"),
        "sent": _sent(message),
        "attachments": [part.get_filename() or part.get_content_type() for part in message.iter_attachments()]
        if message.is_multipart()
        else [],
    }
    return Draft(_blocks(message, subject), subject, metadata)


def _blocks(message: EmailMessage, subject: str) -> Iterator[Block]:
    if subject:
        yield Block("Title", subject, 1)
    body = message.get_body(("plain", "html"))
    if body is None:
        return
    text = _content(body)
    blocks = html_draft(text).blocks if body.get_content_subtype() == "html" else text_blocks(normalise_text(text))
    for block in blocks:
        # The subject stands above the headings of the body.
        yield Block(block.kind, block.text, block.level + 1 if block.level else None)


def _content(part: MIMEPart) -> str:
    payload = part.get_payload(decode=True)
    data = payload if isinstance(payload, bytes) else b""
    charset = part.get_content_charset()
    if charset:
        try:
            return data.decode(charset)
        except (LookupError, UnicodeDecodeError):
            pass
    return decode_text(data)


def _header(message: EmailMessage, name: str) -> str:
    # The header parser raises any of these for headers that spammers and old gateways write.
    try:
        return str(message.get(name) or "")
    except (ValueError, TypeError, LookupError, AttributeError):
        return next((value for key, value in message.raw_items() if key.lower() == name.lower()), "")


def _sent(message: EmailMessage) -> str:
    """The Date header as ISO 8601, or as it stands when it is no date."""
    from email.utils import parsedate_to_datetime

    text = _header(message, "Date")
    try:
        return parsedate_to_datetime(text).isoformat()
    except (ValueError, TypeError, IndexError):
        return text
