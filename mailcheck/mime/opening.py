"""The parts of a mail with those that Outlook packed into `winmail.dat` in its place. Pure; never raises."""

from collections.abc import Iterator
from hashlib import sha256
from typing import Final
from urllib.parse import quote

from huahuo.mailcheck.mime.outlook import File, Packed, unpack
from huahuo.mailcheck.mime.parts import Part, is_attachment

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
    if file.mail is not None:
        return _attached(
            "message/rfc822", f"{file.mail.subject or file.name or 'mail'}.eml", _source(file.mail)
        )
    return _attached(file.type, file.name or "attachment", file.content)


def _attached(kind: str, name: str, content: bytes) -> Part:
    shown = quote(name.encode("utf-8", "replace"), safe="")
    headers = {
        "content-type": kind.encode("ascii", "replace") or b"application/octet-stream",
        "content-disposition": f"attachment; filename*=utf-8''{shown}".encode(),
    }
    return Part(headers, content)


def _source(packed: Packed) -> bytes:
    """An attached mail as the Internet has it. No content can hold the boundary, which is a hash of all."""
    parts = [*_texts(packed), *(_file(file) for file in packed.files)]
    boundary = b"=_" + sha256(b"".join(part.body for part in parts)).hexdigest().encode()
    subject = " ".join(packed.subject.split()).encode("utf-8", "replace")
    pieces = [
        b"Subject: " + subject + b"\r\nMIME-Version: 1.0\r\n"
        b'Content-Type: multipart/mixed; boundary="' + boundary + b'"\r\n\r\n'
    ]
    for part in parts:
        head = b"".join(name.encode() + b": " + value + b"\r\n" for name, value in part.headers.items())
        pieces.append(b"--" + boundary + b"\r\n" + head + b"\r\n" + part.body + b"\r\n")
    return b"".join(pieces) + b"--" + boundary + b"--\r\n"
