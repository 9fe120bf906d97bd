"""What Outlook packs into `winmail.dat` (MS-OXTNEF): a text, attached files, attached mails.

Pure, in linear time; never raises. Of a text that is kept as RTF alone, the words are read. Where the data is
broken the reading ends, and what was read is kept.
"""

import struct
from collections.abc import Iterator
from typing import Final

import msgspec

from huahuo.mailcheck.mime.charsets import decode, guess
from huahuo.mailcheck.mime.rtf import text_of_rtf

FILES_MAX: Final = 200
DEPTH_MAX: Final = 3
"""Of mails that are attached to mails."""
_SIGNATURE: Final = b"\x78\x9f\x3e\x22"
_HEAD_BYTES, _CHECKSUM_BYTES, _GUID_BYTES, _LONG_BYTES = 6, 2, 16, 4
_ATTRIBUTE: Final = struct.Struct("<BHHI")
_SUBJECT, _BODY, _CODE_PAGE, _PROPERTIES = 0x8004, 0x800C, 0x9007, 0x9003
_FILE_BEGINS, _FILE_TITLE, _FILE_DATA, _FILE_PROPERTIES = 0x9002, 0x8010, 0x800F, 0x9005
_P_SUBJECT, _P_TEXT, _P_HTML, _P_RTF, _P_CODE_PAGE = 0x0037, 0x1000, 0x1013, 0x1009, 0x3FDE
_P_DATA, _P_LONG_NAME, _P_SHORT_NAME, _P_TYPE, _P_CONTENT_ID = 0x3701, 0x3707, 0x3704, 0x370E, 0x3712
_NAMED, _SEVERAL = 0x8000, 0x1000
"""From this id on a property has a name of its own; this bit of a type says that there are several values."""
_UNICODE, _NARROW, _OBJECT, _BINARY = 0x1F, 0x1E, 0x0D, 0x102
_FIXED_BYTES: Final = {
    0x02: 4, 0x03: 4, 0x04: 4, 0x05: 8, 0x06: 8, 0x07: 8, 0x0A: 4, 0x0B: 4, 0x14: 8, 0x40: 8, 0x48: 16,
}  # fmt: skip
"""By type, with what pads it to four bytes."""
_PROPERTIES_MAX: Final = 4_000


class File(msgspec.Struct):
    """One attached file, or an attached mail."""

    name: str = ""
    type: str = ""
    content_id: str = ""
    content: bytes = b""
    mail: "Packed | None" = None


class Packed(msgspec.Struct):
    """What one `winmail.dat` holds. Each of its texts may be empty."""

    subject: str = ""
    text: str = ""
    html: str = ""
    files: list[File] = []


def unpack(data: bytes, depth: int = 0) -> Packed | None:
    """The content; None if `data` is no such file."""
    if not data.startswith(_SIGNATURE):
        return None
    packed, file = Packed(), File()
    code_page, body, rtf = "", b"", b""
    for name, value in _attributes(data):
        if name == _CODE_PAGE:
            code_page = f"cp{int.from_bytes(value[:_LONG_BYTES], 'little')}"
        elif name == _SUBJECT:
            packed.subject = packed.subject or _narrow(value, code_page)
        elif name == _BODY:
            body = value
        elif name == _PROPERTIES:
            rtf = _read_message(packed, dict(_properties(value, code_page)), code_page) or rtf
        elif name == _FILE_BEGINS:
            if len(packed.files) >= FILES_MAX:
                break
            file = File()
            packed.files.append(file)
        elif name == _FILE_TITLE:
            file.name = file.name or _narrow(value, code_page)
        elif name == _FILE_DATA:
            file.content = value
        elif name == _FILE_PROPERTIES:
            _read_file(file, dict(_properties(value, code_page)), depth)
    packed.text = packed.text or _narrow(body, code_page)
    if not packed.text.strip() and not packed.html.strip():
        packed.text = text_of_rtf(rtf)
    return packed


def _read_message(packed: Packed, found: dict[int, str | bytes], code_page: str) -> bytes:
    """Fill in what the properties of a mail say. Returns its text as compressed RTF."""
    packed.subject = _text(found.get(_P_SUBJECT), code_page) or packed.subject
    packed.text = _text(found.get(_P_TEXT), code_page)
    number = found.get(_P_CODE_PAGE, b"")
    own = int.from_bytes(number[:_LONG_BYTES], "little") if isinstance(number, bytes) else 0
    packed.html = _text(found.get(_P_HTML), _CODE_PAGES.get(own, f"cp{own}") if own else code_page)
    rtf = found.get(_P_RTF, b"")
    return rtf if isinstance(rtf, bytes) else b""


def _read_file(file: File, found: dict[int, str | bytes], depth: int) -> None:
    name = _text(found.get(_P_LONG_NAME), "") or _text(found.get(_P_SHORT_NAME), "")
    file.name = name or file.name
    file.type, file.content_id = _text(found.get(_P_TYPE), ""), _text(found.get(_P_CONTENT_ID), "")
    data = found.get(_P_DATA, b"")
    if isinstance(data, bytes) and data:
        inner = unpack(data[_GUID_BYTES:], depth + 1) if depth < DEPTH_MAX else None
        file.mail = inner
        file.content = b"" if inner else file.content or data


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = _HEAD_BYTES
    while at + _ATTRIBUTE.size <= len(data):
        _level, name, _type, length = _ATTRIBUTE.unpack_from(data, at)
        at += _ATTRIBUTE.size
        yield name, data[at : at + length]
        at += length + _CHECKSUM_BYTES


class _Cut(Exception):  # noqa: N818  no error: data ends here
    """The properties end in the middle of one."""


class _Cursor:
    """Reads values one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, length: int) -> bytes:
        """The next bytes, and past what pads them to four."""
        piece = self._data[self._at : self._at + length]
        if len(piece) < length:
            raise _Cut
        self._at += -(-length // _LONG_BYTES) * _LONG_BYTES
        return piece

    def number(self) -> int:
        """The next number."""
        return int.from_bytes(self.take(_LONG_BYTES), "little")


def _properties(data: bytes, code_page: str) -> Iterator[tuple[int, str | bytes]]:
    """Ids and first values. Text is decoded."""
    cursor = _Cursor(data)
    try:
        for _ in range(min(cursor.number(), _PROPERTIES_MAX)):
            both = cursor.number()
            kind, name = both & 0xFFFF, both >> 16
            if name >= _NAMED:
                cursor.take(_GUID_BYTES)
                if cursor.number():
                    cursor.take(cursor.number())
                else:
                    cursor.number()
            value = _value(cursor, kind)
            one = kind & ~_SEVERAL
            if one == _UNICODE:
                yield name, value.decode("utf-16-le", "replace").rstrip("\0")
            elif one == _NARROW:
                yield name, _narrow(value, code_page)
            else:
                yield name, value
    except _Cut:
        return


def _value(cursor: _Cursor, kind: int) -> bytes:
    """The first of its values, and past all of them."""
    fixed = _FIXED_BYTES.get(kind & ~_SEVERAL)
    if fixed is None and kind & ~_SEVERAL not in (_UNICODE, _NARROW, _OBJECT, _BINARY):
        raise _Cut  # its length is unknown
    several = kind & _SEVERAL or fixed is None
    first = b""
    for index in range(cursor.number() if several else 1):
        value = cursor.take(cursor.number() if fixed is None else fixed)
        first = first if index else value
    return first


def _text(value: str | bytes | None, code_page: str) -> str:
    if isinstance(value, str):
        return value
    return _narrow(value, code_page) if value else ""


def _narrow(raw: bytes, code_page: str) -> str:
    raw = raw.rstrip(b"\0")
    return (decode(raw, code_page) if code_page else guess(raw)) if raw else ""


_CODE_PAGES: Final = {
    65001: "utf-8", 1200: "utf-16-le", 54936: "gb18030", 20866: "koi8-r", 21866: "koi8-u", 28591: "iso8859-1",
    28592: "iso-8859-2", 28595: "iso-8859-5", 28605: "iso-8859-15", 50220: "iso-2022-jp", 51932: "euc-jp",
    51949: "euc-kr", 20127: "us-ascii",
}  # fmt: skip
"""Numbers of character sets that are no `cp…`."""
