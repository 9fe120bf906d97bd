"""A mail as Outlook saves it (`.msg`, MS-OXMSG), made into a mail as the Internet has it. Pure.

Taken over are subject, sender, recipients, date, Message-ID, the text (plain and HTML), attached files and
attached mails. Of a text that is kept as RTF alone, the words are.
"""

import struct
from base64 import encodebytes
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Final
from urllib.parse import quote

from huahuo.mailcheck.mime.charsets import guess
from huahuo.mailcheck.mime.compound import Compound
from huahuo.mailcheck.mime.rtf import text_of_rtf

ATTACHMENTS_MAX: Final = 200
DEPTH_MAX: Final = 3
"""Of mails that are attached to mails."""
_SUBJECT, _HEADERS, _MESSAGE_ID = "0037", "007D", "1035"
_SENDER_NAME, _SENDER_SMTP, _SENDER_ADDRESS = "0C1A", "5D01", "0C1F"
_TO, _CC, _TEXT, _HTML, _RTF = "0E04", "0E03", "1000", "1013", "1009"
_DATA, _LONG_NAME, _SHORT_NAME, _TYPE, _CONTENT_ID = "3701", "3707", "3704", "370E", "3712"
_SUBMITTED, _DELIVERED = 0x00390040, 0x0E060040
_FIXED: Final = struct.Struct("<IIQ")
_FIXED_HEADER_BYTES: Final = {0: 32, 1: 24}
"""Before the values of fixed size: of the whole mail, and of one that is attached."""
_EPOCH: Final = datetime(1601, 1, 1, tzinfo=UTC)
_BOUNDARY: Final = "=_of_an_outlook_file_{}"


def mail_of_outlook(data: bytes) -> bytes:
    """The mail in a `.msg` file. Raises NotCompound: it is no such file, or a broken one."""
    return _mail(Compound(data), "", 0)


def _mail(file: Compound, at: str, depth: int) -> bytes:
    headers = list(_headers(file, at, depth))
    text, html = _text(file, at + _TEXT), file.read(_place(at, _HTML, "0102"))
    html = html or _text(file, at + _HTML).encode()
    if not text and not html:
        text = text_of_rtf(file.read(_place(at, _RTF, "0102")))
    bodies = [_part("text/plain; charset=utf-8", text.encode())] if text or not html else []
    if html:
        bodies.append(_part("text/html", html))
    parts = [*bodies, *_attached(file, at, depth)]
    kind = "alternative" if len(parts) == len(bodies) > 1 else "mixed"
    boundary = _BOUNDARY.format(depth)
    headers.append(f'Content-Type: multipart/{kind}; boundary="{boundary}"')
    between = f"--{boundary}\r\n".encode()
    whole = b"".join(between + part + b"\r\n" for part in parts)
    return (
        "\r\n".join(["MIME-Version: 1.0", *headers, "", ""]).encode() + whole + f"--{boundary}--\r\n".encode()
    )


def _headers(file: Compound, at: str, depth: int) -> Iterator[str]:
    name, address = _text(file, at + _SENDER_NAME), _text(file, at + _SENDER_SMTP)
    address = address or _text(file, at + _SENDER_ADDRESS)
    if name or address:
        yield f"From: {_word(name)} <{_plain(address)}>" if "@" in address else f"From: {_word(name)}"
    for header, field in (("Subject", _SUBJECT), ("To", _TO), ("Cc", _CC)):
        value = _text(file, at + field)
        if value:
            yield f"{header}: {_word(value)}"
    message_id = _plain(_text(file, at + _MESSAGE_ID))
    if message_id:
        yield f"Message-ID: {message_id}"
    moment = _moment(file.read(f"{at}__properties_version1.0"), _FIXED_HEADER_BYTES[min(depth, 1)])
    if moment is not None:
        yield f"Date: {format_datetime(moment)}"


def _attached(file: Compound, at: str, depth: int) -> Iterator[bytes]:
    places = {
        name[: name.index("/", len(at)) + 1]
        for name in file.below(f"{at}__attach_version1.0_#")
        if "/" in name[len(at) :]
    }
    for place in sorted(places)[:ATTACHMENTS_MAX]:
        name = _text(file, place + _LONG_NAME) or _text(file, place + _SHORT_NAME)
        inner = f"{place}__substg1.0_3701000D/"
        if file.below(inner):
            if depth < DEPTH_MAX:
                yield b"Content-Type: message/rfc822\r\n\r\n" + _mail(file, inner, depth + 1)
            continue
        kind = _plain(_text(file, place + _TYPE)) or "application/octet-stream"
        disposition = (
            f"Content-Disposition: attachment; filename*=utf-8''{quote(name or 'attachment', safe='')}"
        )
        content_id = _plain(_text(file, place + _CONTENT_ID))
        more = [disposition, *([f"Content-ID: <{content_id}>"] if content_id else [])]
        yield _part(kind, file.read(_place(place, _DATA, "0102")), *more)


def _part(kind: str, data: bytes, *more: str) -> bytes:
    lines = [f"Content-Type: {kind}", "Content-Transfer-Encoding: base64", *more, "", ""]
    return "\r\n".join(lines).encode() + encodebytes(data)


def _place(at: str, field: str, kind: str) -> str:
    return f"{at}__substg1.0_{field}{kind}"


def _text(file: Compound, at_field: str) -> str:
    """A text, stored as Unicode or in an old character set without its name."""
    at, field = at_field[:-4], at_field[-4:]
    wide = file.read(_place(at, field, "001F"))
    if wide:
        return wide.decode("utf-16-le", "replace").rstrip("\0")
    narrow = file.read(_place(at, field, "001E")).rstrip(b"\0")
    return guess(narrow) if narrow else ""


def _word(text: str) -> str:
    """A text for a header: as it is if it is plain, else encoded."""
    text = " ".join(text.split())
    if text.isascii() and text.isprintable() and "=?" not in text:
        return text
    return f"=?utf-8?B?{encodebytes(text.encode('utf-8', 'replace')).decode().replace('\n', '')}?="


def _plain(text: str) -> str:
    return "".join(char for char in text if char.isascii() and char.isprintable())


def _moment(properties: bytes, header_bytes: int) -> datetime | None:
    """When the mail was sent, else when it came."""
    values = properties[header_bytes:]
    whole = values[: len(values) // _FIXED.size * _FIXED.size]
    found = {tag: value for tag, _flags, value in _FIXED.iter_unpack(whole)}
    ticks = found.get(_SUBMITTED) or found.get(_DELIVERED)
    try:
        return None if not ticks else _EPOCH + timedelta(microseconds=ticks // 10)
    except OverflowError:
        return None
