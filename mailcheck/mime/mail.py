"""A mail as a reader sees it: subject, sender, date, text, attachments. Pure; any bytes give a mail.

`parse_mail` costs processor time, so a check runs it on the executor, one mail a job. What Outlook packed
into `winmail.dat` stands in its place (`opened`). Text with `format=flowed` (RFC 3676) is joined: its
paragraphs were broken into lines for the way only. With `delsp=yes` they may be broken where no blank is,
in the middle of a link or of a Chinese word. A blank line stays one, also behind a line that wrongly says
that its paragraph goes on.
"""

import datetime as dt
import email.utils
import re
from base64 import encodebytes
from collections.abc import Iterator
from hashlib import sha256
from html import unescape
from typing import Final
from urllib.parse import quote, unquote

import msgspec

from huahuo.eventstore.ambient import json_bytes
from huahuo.mailcheck.mime.charsets import decode, decode_words, guess, one_line, readable
from huahuo.mailcheck.mime.outlook import File, Packed, header_text, saved_mail, unpack
from huahuo.mailcheck.mime.parts import Part, is_attachment, is_hidden_file, parse

_SIGNATURE: Final = "-- "


def unflowed(text: str, *, delete_space: bool) -> str:
    """The text with each paragraph on a line of its own. What is quoted keeps its marks."""
    return "\n".join(_paragraphs(text, delete_space=delete_space))


def _paragraphs(text: str, *, delete_space: bool) -> Iterator[str]:
    held: list[str] = []
    held_depth = 0
    for line in text.replace("\r\n", "\n").split("\n"):
        rest = line.lstrip(">")
        depth = len(line) - len(rest)
        rest = rest.removeprefix(" ")
        if held and (depth != held_depth or rest in ("", _SIGNATURE)):
            yield _marked(held_depth, "".join(held))
            held = []
        held_depth = depth
        if rest.endswith(" ") and rest != _SIGNATURE:
            held.append(rest[:-1] if delete_space else rest)
            continue
        yield _marked(depth, "".join((*held, rest)))
        held = []
    if held:
        yield _marked(held_depth, "".join(held))


def _marked(depth: int, paragraph: str) -> str:
    return f"{'>' * depth} {paragraph}" if depth else paragraph


_TYPES: Final = frozenset({"application/ms-tnef", "application/vnd.ms-tnef"})
_NAME: Final = "winmail.dat"
_BYTES_MAX: Final = 32 * 1024 * 1024
_TEXT, _HTML = b"text/plain; charset=utf-8", b"text/html; charset=utf-8"


def opened(parts: list[Part]) -> list[Part]:
    """The parts; a `winmail.dat` gives way to its files, and to its text if the mail has none of its own.

    Its first file has its place and the others stand behind all parts, so that a file behind it keeps its
    number. For the same reason one without files stays if a file stands behind it.
    """
    if not any(_is_packed(part) for part in parts):
        return parts
    has_text = any(
        part.type.startswith("text/") and part.body.strip() and not is_attachment(part) for part in parts
    )
    found: list[Part] = []
    behind: list[Part] = []
    for at, part in enumerate(parts):
        packed = unpack(part.decoded(_BYTES_MAX)) if _is_packed(part) else None
        texts = list(_texts(packed)) if packed and not has_text else []
        files = [_file(file) for file in packed.files] if packed else []
        stays = not texts or any(is_attachment(other) for other in parts[at + 1 :])
        found += texts + (files[:1] or [part] * stays)
        behind += files[1:]
    return found + behind


def _is_packed(part: Part) -> bool:
    return part.type in _TYPES or (part.type.startswith("application/") and part.name.lower() == _NAME)


def _texts(packed: Packed) -> Iterator[Part]:
    for kind, text in ((_TEXT, packed.text), (_HTML, packed.html)):
        if text.strip():
            yield Part({"content-type": kind}, text.encode("utf-8", "replace"))


def _file(file: File) -> Part:
    kind, name, content = file.type, file.name or "attachment", file.content
    if file.mail is not None:
        kind, name = "message/rfc822", f"{file.mail.subject or file.name or 'mail'}.eml"
        content = _source(file.mail)
    shown = quote(name.encode("utf-8", "replace"), safe="")
    headers = {
        "content-type": kind.encode() or b"application/octet-stream",
        "content-disposition": f"attachment; filename*=utf-8''{shown}".encode(),
    }
    if file.content_id:
        headers["content-id"] = f"<{file.content_id}>".encode()
    return Part(headers, content)


def mail_of_outlook(data: bytes) -> bytes:
    """The mail in a `.msg` file. Raises NotCompound: it is no such file, or a broken one."""
    return _source(saved_mail(data))


def _source(packed: Packed) -> bytes:
    """A mail as the Internet has it. No content can hold the boundary, which is a hash of all."""
    parts = [*_texts(packed), *(_file(file) for file in packed.files)]
    boundary = b"=_" + sha256(b"".join(part.body for part in parts)).hexdigest().encode()
    lines = [f"Subject: {header_text(packed.subject)}", *packed.headers, "MIME-Version: 1.0"]
    kind = b"mixed" if packed.files else b"alternative"
    pieces = [
        "\r\n".join(lines).encode("ascii", "replace")
        + b"\r\nContent-Type: multipart/"
        + kind
        + b'; boundary="'
        + boundary
        + b'"\r\n\r\n'
    ]
    for part in parts:
        if part.type != "message/rfc822":
            part.headers["content-transfer-encoding"] = b"base64"
            part.body = encodebytes(part.body)
        head = b"".join(name.encode() + b": " + value + b"\r\n" for name, value in part.headers.items())
        pieces.append(b"--" + boundary + b"\r\n" + head + b"\r\n" + part.body + b"\r\n")
    return b"".join(pieces) + b"--" + boundary + b"--\r\n"


TEXT_CHARS_MAX = 512 * 1024
"""Bound of the plain text, and the same again for the HTML."""
_TEXT_BYTES_MAX = 4 * TEXT_CHARS_MAX
_ATTACHMENTS_MAX = 200
_CALENDARS = frozenset({"text/calendar", "application/ics"})
_NAMES = {
    "text/calendar": "invite.ics",
    "application/ics": "invite.ics",
    "application/pdf": "attachment.pdf",
    "message/rfc822": "mail.eml",
    "image/jpeg": "image.jpg",
    "image/png": "image.png",
    "text/csv": "table.csv",
}
"""Of files that have none."""
_REFERENCE = re.compile(r"\bcid:([^\s\"'<>)]{1,998})", re.IGNORECASE)
_SENDER_CHARS_MAX = 4000
_DATE_MS_MAX = 253_402_300_799_999
_USUAL_SENDER = re.compile(rb"([A-Za-z0-9 ]{1,100} )?<([A-Za-z0-9._+-]{1,64}@[A-Za-z0-9.-]{1,255})>")
"""A name and an address without anything to unquote or decode."""
_OF_LISTS = re.compile(r'[<>@"():;]')
"""What a name that is not quoted has where it is none, or several."""
_NEEDS_QUOTES = re.compile(r'[<>@,;:"()\[\]\\]')


class Attachment(msgspec.Struct, frozen=True):
    """One attached file. `size` is the decoded size in bytes."""

    name: str
    type: str
    size: int


class ParsedMail(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed mail. `subject` and `sender` are one line each. `date_ms` is None without a usable date."""

    subject: str = ""
    sender: str = ""
    to: str = ""
    cc: str = ""
    date_ms: int | None = None
    message_id: str = ""
    has_attachments: bool = False
    text: str = ""
    html: str = ""
    attachments: list[Attachment] = []


def parse_mail(raw: bytes) -> ParsedMail:
    """The mail in `raw`, however broken it is. Never raises."""
    try:
        return parsed_mail(raw)
    except Exception:  # noqa: BLE001  a mail that defeats us must still be listed, with its text as it came
        return ParsedMail(text=guess(raw[:_TEXT_BYTES_MAX])[:TEXT_CHARS_MAX])


def parse_headers(raw: bytes) -> ParsedMail:
    """What the headers alone say; whether there are attachments is a guess by the type. Never raises."""
    try:
        root = parse(raw)
        mixed = root.header("content-type").lstrip().lower().startswith(b"multipart/mixed")
        mail = parsed_mail(raw)
    except Exception:  # noqa: BLE001  as in `parse_mail`
        return ParsedMail()
    return msgspec.structs.replace(mail, text="", html="", attachments=[], has_attachments=mixed)


def content_document(mail: ParsedMail, *, truncated: bool) -> bytes:
    """The content of a mail as JSON, which is stored as a blob outside the log."""
    return json_bytes(
        {
            "text": mail.text,
            "html": mail.html,
            "attachments": mail.attachments,
            "to": mail.to,
            "cc": mail.cc,
            "truncated": truncated,
        }
    )


def parsed_mail(raw: bytes) -> ParsedMail:
    """As `parse_mail`, without its net: a fault of the parser is raised."""
    root = parse(raw)
    leaves = _leaves(root)
    charset = next((leaf.charset for leaf in leaves if leaf.charset), "")
    texts: dict[str, list[str]] = {"text/plain": [], "text/html": []}
    for leaf in leaves:
        if leaf.type in texts and not is_attachment(leaf):
            texts[leaf.type].append(_text(leaf, charset))
    attachments = [_attachment(leaf) for leaf in _files(leaves)]
    return ParsedMail(
        subject=readable(root.header("subject"), charset=charset),
        sender=_sender(root.header("from") or root.header("sender"), charset),
        to=readable(root.header("to"), charset=charset, chars_max=4000),
        cc=readable(root.header("cc"), charset=charset, chars_max=4000),
        date_ms=_date_ms(root.header("date")),
        message_id=one_line(guess(root.header("message-id")), chars_max=998),
        has_attachments=bool(attachments),
        text=_joined(texts["text/plain"]),
        html=_joined(texts["text/html"]),
        attachments=attachments,
    )


def attached(raw: bytes, number: int, bytes_max: int) -> tuple[Attachment, bytes] | None:
    """The attachment of this number, counted as in `ParsedMail.attachments`, and its content.

    Of a longer one there are a few bytes more than `bytes_max`. None: there are fewer. Never raises.
    """
    files = _files(_leaves(parse(raw)))
    if number >= len(files):
        return None
    leaf = files[number]
    about = _attachment(leaf)
    try:
        return about, leaf.decoded(bytes_max + 1)[: bytes_max + 1]
    except Exception:  # noqa: BLE001  what cannot be decoded is given as it came
        return about, leaf.body[: bytes_max + 1]


def _files(leaves: list[Part]) -> list[Part]:
    """The attachments, and behind them what is neither that nor shown, so that no number changes by it."""
    marked = [leaf for leaf in leaves if is_attachment(leaf)]
    has_calendar = any(leaf.type in _CALENDARS for leaf in marked)
    shown = _referred(leaves)
    hidden = [
        leaf
        for leaf in leaves
        if is_hidden_file(leaf, shown)
        and not (has_calendar and leaf.type in _CALENDARS)
        and not is_attachment(leaf)
    ]
    return (marked + hidden)[:_ATTACHMENTS_MAX]


def _referred(leaves: list[Part]) -> frozenset[str]:
    """The ids of parts that the HTML refers to, as far as it is kept: they are shown in it."""
    if not any(leaf.content_id for leaf in leaves):
        return frozenset()
    page = ""
    for leaf in leaves:
        if leaf.type == "text/html" and len(page) < TEXT_CHARS_MAX:
            page += decode(leaf.decoded(_TEXT_BYTES_MAX), leaf.charset)
    return frozenset(unquote(unescape(one[1])) for one in _REFERENCE.finditer(page, 0, TEXT_CHARS_MAX))


def _attachment(leaf: Part) -> Attachment:
    return Attachment(leaf.name or _NAMES.get(leaf.type, ""), leaf.type, leaf.size)


def _text(leaf: Part, fallback: str) -> str:
    text = decode(leaf.decoded(_TEXT_BYTES_MAX), leaf.charset, fallback=fallback)
    if leaf.type != "text/plain" or leaf.parameter("content-type", "format").lower() != "flowed":
        return text
    return unflowed(text, delete_space=leaf.parameter("content-type", "delsp").lower() == "yes")


def _joined(texts: list[str]) -> str:
    return "\n".join(texts).replace("\r\n", "\n")[:TEXT_CHARS_MAX]


def _leaves(root: Part) -> list[Part]:
    """The parts that have no children, in reading order. A multipart that cannot be split counts as text."""
    found: list[Part] = []
    todo = [root]
    while todo:
        part = todo.pop()
        if part.children:
            todo += reversed(part.children)
            continue
        if part.type.startswith("multipart/"):
            part.headers = {**part.headers, "content-type": b"text/plain"}
        found.append(part)
    return opened(found)


def _sender(raw: bytes, charset: str) -> str:
    """`Name <address>`. The address is parsed before words are decoded, so that a name cannot forge one."""
    usual = _USUAL_SENDER.fullmatch(raw)
    if usual:
        name, address = " ".join((usual[1] or b"").decode("ascii").split()), usual[2].decode("ascii")
        return f"{name} <{address}>" if name and name != address else address
    text = guess(raw, charset)[:_SENDER_CHARS_MAX]
    try:
        found = _with_comma(text) or email.utils.getaddresses([text])
    except RecursionError:  # nested comments
        found = []
    name, address = next(((name, address) for name, address in found if "@" in address), ("", ""))
    if not address:
        return readable(raw, charset=charset, chars_max=320)
    return written_sender(decode_words(name.encode("utf-8", "replace")), address)


def written_sender(name: str, address: str) -> str:
    """`Name <address>`: one line, in which a name cannot pass for an address."""
    shown = one_line(name, chars_max=200)
    if not shown or shown == address:
        return one_line(address, chars_max=320)
    if _NEEDS_QUOTES.search(shown):
        shown = '"' + shown.replace("\\", "").replace('"', "'") + '"'
    return f"{shown} <{one_line(address, chars_max=320)}>"


def _with_comma(text: str) -> list[tuple[str, str]]:
    """`Doe, John <address>`, which has no quotes where it wants some."""
    name, opened, address = text.strip().removesuffix(">").rpartition("<")
    if not opened or "," not in name or _OF_LISTS.search(name) or len(address.split("@")) != 2:  # noqa: PLR2004
        return []
    return [(name.strip(), address.strip())]


def _date_ms(raw: bytes) -> int | None:
    try:
        date = email.utils.parsedate_to_datetime(raw[:200].decode("ascii", "replace"))
    except Exception:  # noqa: BLE001  its errors are of several types, none of them ours
        return None
    aware = date if date.tzinfo else date.replace(tzinfo=dt.UTC)
    ms = round((aware - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)).total_seconds() * 1000)
    return ms if 0 <= ms <= _DATE_MS_MAX else None
