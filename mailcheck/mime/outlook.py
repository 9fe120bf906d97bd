"""What Outlook keeps a mail in: files that it saves (`.msg`), `winmail.dat`, and compressed RTF. Pure.

Of a `.msg` file (MS-OXMSG, in a compound file, MS-CFB) a mail is made as the Internet has it: subject,
sender, recipients, date, Message-ID, the text (plain and HTML), attached files and attached mails. Of
`winmail.dat` (MS-OXTNEF) the text, attached files and attached mails are read. Of a text that is kept as RTF
alone (MS-OXRTFCP), the words are.

Files are hostile: chains may be circles, sizes may lie, streams may share sectors. So all takes linear time,
each sector of a chain is read once, and all streams together are no longer than the file. This is by hand
because no library that may be used keeps these bounds. `striprtf` takes quadratic time for nested fields and
font tables, and raises for a number that is missing. `olefile` walks the directory by recursion, and fails at
3,000 streams in a row. `tnefparse` and `RTFDE` are under the LGPL, `extract-msg` is under the GPL.
"""

import contextlib
import re
import struct
from base64 import encodebytes
from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import islice, takewhile
from typing import Final

import msgspec

from huahuo.mailcheck.mime.charsets import decode, guess

FILES_MAX: Final = 200
DEPTH_MAX: Final = 3
"""Of mails that are attached to mails."""
_P_SUBJECT, _P_TO, _P_CC, _P_MESSAGE_ID = 0x0037, 0x0E04, 0x0E03, 0x1035
_P_SENDER_NAME, _P_SENDER_SMTP, _P_SENDER_ADDRESS = 0x0C1A, 0x5D01, 0x0C1F
_P_TEXT, _P_HTML, _P_RTF, _P_CODE_PAGE = 0x1000, 0x1013, 0x1009, 0x3FDE
_P_DATA, _P_LONG_NAME, _P_SHORT_NAME, _P_TYPE, _P_CONTENT_ID = 0x3701, 0x3707, 0x3704, 0x370E, 0x3712
_OF_MAIL: Final = (
    *(_P_SUBJECT, _P_TO, _P_CC, _P_MESSAGE_ID, _P_SENDER_NAME, _P_SENDER_SMTP, _P_SENDER_ADDRESS),
    *(_P_TEXT, _P_HTML, _P_RTF),
)
_OF_FILE: Final = (_P_DATA, _P_LONG_NAME, _P_SHORT_NAME, _P_TYPE, _P_CONTENT_ID)
_NUMBER, _UNICODE, _NARROW, _OBJECT, _BINARY = 0x03, 0x1F, 0x1E, 0x0D, 0x102
"""Types of properties."""


class File(msgspec.Struct):
    """One attached file, or an attached mail."""

    name: str = ""
    type: str = ""
    content_id: str = ""
    content: bytes = b""
    mail: "Packed | None" = None


class Packed(msgspec.Struct):
    """What one file holds. Each of its texts may be empty. `headers`: lines besides that of the subject."""

    subject: str = ""
    text: str = ""
    html: str = ""
    files: list[File] = []
    headers: list[str] = []


# Compressed RTF -------------------------------------------------------------------------------------

TEXT_BYTES_MAX: Final = 1024 * 1024
"""How much of the RTF is unpacked and read."""
_RTF_HEADER: Final = struct.Struct("<II4sI")
_PACKED, _PLAIN = b"LZFu", b"MELA"
_WINDOW: Final = 4096
_BEGINNING: Final = (
    rb"{\rtf1\ansi\mac\deff0\deftab720{\fonttbl;}{\f0\fnil \froman \fswiss \fmodern \fscript \fdecor "
    rb"MS Sans SerifSymbolArialTimes New RomanCourier{\colortbl\red0\green0\blue0"
    b"\r\n"
    rb"\par \pard\plain\f0\fs20\b\i\u\tab\tx"
)
"""What the window holds at first: the words with which most RTF begins."""
_TOKEN = re.compile(
    rb"\\(?P<word>[a-z]{1,32})(?P<number>-?[0-9]{1,10})? ?|\\'(?P<hex>[0-9a-fA-F]{2})|\\(?P<sign>[^a-z])"
    rb"|(?P<brace>[{}])|[\r\n]+|(?P<text>[^\\{}\r\n]+)|\\"
)
_SKIPPED: Final = frozenset(
    {b"fonttbl", b"colortbl", b"stylesheet", b"info", b"pict", b"object", b"header", b"footer", b"listtable"}
)
_BREAKS: Final = {b"par": "\n", b"line": "\n", b"row": "\n", b"tab": "\t", b"cell": "\t"}
_SIGNS: Final = {b"~": "\u00a0", b"_": "-", b"\\": "\\", b"{": "{", b"}": "}", b"\n": "\n", b"\r": "\n"}
_GROUPS_DEEP_MAX: Final = 1_000


def text_of_rtf(packed: bytes) -> str:
    """The text; "" if it is no such RTF."""
    return _words(_unpacked(packed)).strip()


def _unpacked(packed: bytes) -> bytes:
    if len(packed) < _RTF_HEADER.size:
        return b""
    _size, raw_size, kind, _crc = _RTF_HEADER.unpack_from(packed)
    most = min(raw_size, TEXT_BYTES_MAX)
    if kind == _PLAIN:
        return packed[_RTF_HEADER.size :][:most]
    if kind != _PACKED:
        return b""
    window = bytearray(_BEGINNING.ljust(_WINDOW, b"\0"))
    place = len(_BEGINNING)
    found = bytearray()
    at = _RTF_HEADER.size
    while at < len(packed) and len(found) < most:
        flags = packed[at]
        at += 1
        for bit in range(8):
            if flags >> bit & 1:
                if at + 2 > len(packed):
                    return bytes(found)
                reference = packed[at] << 8 | packed[at + 1]
                at += 2
                source = reference >> 4
                if source == place:  # the end
                    return bytes(found[:most])
                for n in range((reference & 15) + 2):
                    byte = window[(source + n) % _WINDOW]
                    window[place] = byte
                    place = (place + 1) % _WINDOW
                    found.append(byte)
            else:
                if at >= len(packed):
                    return bytes(found)
                window[place] = packed[at]
                found.append(packed[at])
                place = (place + 1) % _WINDOW
                at += 1
    return bytes(found[:most])


def _words(rtf: bytes) -> str:
    if not rtf.startswith(b"{\\rtf"):
        return ""
    charset, told = "cp1252", []
    narrow = bytearray()  # bytes of a character set, which may take two for a character
    groups: list[tuple[bool, int]] = []
    hidden, after_unicode, left = False, 1, 0

    def flush() -> None:
        if narrow:
            told.append(narrow.decode(charset, "replace"))
            narrow.clear()

    for token in _TOKEN.finditer(rtf):
        word, sign = token["word"], token["sign"]
        if token["brace"] == b"{":
            if len(groups) >= _GROUPS_DEEP_MAX:
                break
            groups.append((hidden, after_unicode))
        elif token["brace"] == b"}":
            hidden, after_unicode = groups.pop() if groups else (False, 1)
        elif word == b"ansicpg" and token["number"]:
            charset = _codec(f"cp{int(token['number'])}") or charset
        elif word in _SKIPPED or sign == b"*":
            hidden = True
        elif word == b"htmlrtf":  # what stands for HTML that is kept in marks
            hidden = token["number"] != b"0"
        elif word == b"uc":
            after_unicode = int(token["number"] or 1)
        elif hidden:
            continue
        elif word == b"u" and token["number"]:
            flush()
            told.append(chr(int(token["number"]) % 0x10000))
            left = after_unicode
        elif token["hex"]:
            if left:
                left -= 1
            else:
                narrow.append(int(token["hex"], 16))
        elif token["text"]:
            shown = token["text"][left:]
            left = max(0, left - len(token["text"]))
            narrow += shown
        elif word in _BREAKS or sign in _SIGNS:
            flush()
            told.append(_BREAKS.get(word) or _SIGNS.get(sign, ""))
    flush()
    return "".join(told).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _codec(name: str) -> str:
    try:
        "".encode(name)
    except LookupError:
        return ""
    return name


# Compound files -------------------------------------------------------------------------------------

MAGIC: Final = bytes.fromhex("d0cf11e0a1b11ae1")
ENTRIES_MAX: Final = 10_000
STORAGES_DEEP_MAX: Final = 16
"""What is in more storages is left out: the paths of deep ones would take the square of their number."""
_FILE_HEADER: Final = struct.Struct("<30x2H14xI4x5I")
_ENTRY: Final = struct.Struct("<64sHBx3I36xIQ")
_ENTRY_BYTES: Final = 128
_FREE: Final = 0xFFFFFFFA
"""Numbers from here on are no sectors."""
_STORAGE, _STREAM = 1, 2


class NotCompound(ValueError):  # noqa: N818  a fact about the file
    """The bytes are no compound file, or a broken one."""


class Compound:
    """The streams of a file, by their path: names of storages and the stream, with `/` between them."""

    def __init__(self, data: bytes) -> None:
        """Read the directory. Raises NotCompound."""
        try:
            self._open(data)
        except (struct.error, IndexError, UnicodeDecodeError) as error:
            raise NotCompound(str(error)) from None

    def below(self, beginning: str) -> list[str]:
        """The paths of the streams that begin so, in order."""
        those = islice(self._names, bisect_left(self._names, beginning), None)
        return list(takewhile(lambda name: name.startswith(beginning), those))

    def read(self, path: str) -> bytes:
        """A stream, empty if there is none. To be read once. Raises NotCompound: it has another's sectors."""
        start, size = self._streams.get(path, (_FREE, 0))
        if size < self._mini_below:
            found = self._chain(start, self._mini_fat, self._mini_bytes, self._mini, 0, size)
        else:
            found = self._sectors(start, size)
        self._left -= len(found)
        if self._left < 0:
            raise NotCompound("streams that share sectors")
        return found

    def _open(self, data: bytes) -> None:
        if not data.startswith(MAGIC):
            raise NotCompound("another kind of file")
        shift, mini_shift, directory, self._mini_below, first_mini, _, first_more, _ = (
            _FILE_HEADER.unpack_from(data)
        )
        if not (7 <= shift <= 16 and 2 <= mini_shift <= shift):  # noqa: PLR2004  512 and 4,096 bytes are usual
            raise NotCompound("odd sectors")
        self._data, self._bytes, self._mini_bytes = data, 1 << shift, 1 << mini_shift
        self._left = len(data)
        places = list(struct.unpack_from("<109I", data, 76))
        seen: set[int] = set()
        while first_more < _FREE and first_more not in seen:
            seen.add(first_more)
            more = self._numbers(self._sector(first_more))
            places += more[:-1]
            first_more = more[-1]
        self._fat: list[int] = []
        for place in dict.fromkeys(place for place in places if place < _FREE):
            self._fat += self._numbers(self._sector(place))
        self._mini_fat = self._numbers(self._sectors(first_mini))
        entries = self._sectors(directory)
        self._mini = b""
        self._streams = dict(self._walk(entries))
        self._names = sorted(self._streams)

    def _walk(self, entries: bytes) -> Iterator[tuple[str, tuple[int, int]]]:
        count = min(len(entries) // _ENTRY_BYTES, ENTRIES_MAX)
        root = _ENTRY.unpack_from(entries, 0)
        self._mini = self._sectors(root[6], root[7] & 0xFFFFFFFF)
        todo, seen = [(root[5], "", 0)], {0}
        while todo:
            number, parent, depth = todo.pop()
            if number >= count or number in seen:
                continue
            seen.add(number)
            name, length, kind, left, right, child, start, size = _ENTRY.unpack_from(
                entries, number * _ENTRY_BYTES
            )
            path = parent + name[: max(0, min(length, 64) - 2)].decode("utf-16-le", "replace")
            todo += [(left, parent, depth), (right, parent, depth)]
            if kind == _STREAM:
                yield path, (start, size & 0xFFFFFFFF)
            elif kind == _STORAGE and depth < STORAGES_DEEP_MAX:
                todo.append((child, f"{path}/", depth + 1))

    def _sectors(self, start: int, size: int | None = None) -> bytes:
        return self._chain(
            start, self._fat, self._bytes, self._data, 1, len(self._data) if size is None else size
        )

    @staticmethod
    def _chain(start: int, table: list[int], each: int, data: bytes, skipped: int, size: int) -> bytes:
        """The first `size` bytes of a chain; it ends where the data does."""
        found: list[bytes] = []
        seen: set[int] = set()
        while size > 0 and start < len(table) and start not in seen:
            seen.add(start)
            at = (start + skipped) * each
            piece = data[at : at + min(each, size)]
            if not piece:
                break
            found.append(piece)
            size -= len(piece)
            start = table[start]
        return b"".join(found)

    def _sector(self, number: int) -> bytes:
        at = (number + 1) * self._bytes
        return self._data[at : at + self._bytes]

    @staticmethod
    def _numbers(sector: bytes) -> list[int]:
        return list(struct.unpack(f"<{len(sector) // 4}I", sector[: len(sector) // 4 * 4]))


# Saved mails ----------------------------------------------------------------------------------------

_SUBMITTED, _DELIVERED = 0x00390040, 0x0E060040
_FIXED: Final = struct.Struct("<IIQ")
_FIXED_HEADER_BYTES: Final = {0: 32, 1: 24}
"""Before the values of fixed size: of the whole mail, and of one that is attached."""
_EPOCH: Final = datetime(1601, 1, 1, tzinfo=UTC)


def saved_mail(data: bytes) -> Packed:
    """The mail in a `.msg` file. Raises NotCompound: it is no such file, or a broken one."""
    return _saved(Compound(data), "", 0)


def _saved(file: Compound, at: str, depth: int) -> Packed:
    fixed = _fixed(file.read(f"{at}__properties_version1.0"), _FIXED_HEADER_BYTES[min(depth, 1)])
    found = _streams(file, at, _OF_MAIL)
    found[_P_CODE_PAGE] = fixed.get(_P_CODE_PAGE << 16 | _NUMBER, 0).to_bytes(8, "little")
    packed = Packed(headers=list(_headers(found, fixed)))
    rtf = _read_message(packed, found, "")
    if not packed.text and not packed.html:
        packed.text = text_of_rtf(rtf)
    places = {
        name[: name.index("/", len(at)) + 1]
        for name in file.below(f"{at}__attach_version1.0_#")
        if "/" in name[len(at) :]
    }
    for place in sorted(places)[:FILES_MAX]:
        one, inner = File(), f"{place}__substg1.0_3701000D/"
        if not file.below(inner):
            _read_file(one, _streams(file, place, _OF_FILE), DEPTH_MAX)
        elif depth < DEPTH_MAX:
            one.mail = _saved(file, inner, depth + 1)
        else:
            continue
        packed.files.append(one)
    return packed


def _streams(file: Compound, at: str, names: tuple[int, ...]) -> dict[int, str | bytes]:
    """The first form in which each of these properties is there."""
    found: dict[int, str | bytes] = {}
    for name in names:
        for kind in (_UNICODE, _NARROW, _BINARY):
            value = file.read(f"{at}__substg1.0_{name:04X}{kind:04X}")
            if value:
                text = value.decode("utf-16-le", "replace").rstrip("\0") if kind == _UNICODE else ""
                found[name] = text if kind == _UNICODE else value
                break
    return found


def _headers(found: dict[int, str | bytes], fixed: dict[int, int]) -> Iterator[str]:
    def text(name: int) -> str:
        return _text_of(found.get(name), "")

    name, address = text(_P_SENDER_NAME), text(_P_SENDER_SMTP) or text(_P_SENDER_ADDRESS)
    if name or address:
        yield f"From: {header_text(name)}" + (f" <{_plain(address)}>" if "@" in address else "")
    for header, field in (("To", _P_TO), ("Cc", _P_CC)):
        if value := text(field):
            yield f"{header}: {header_text(value)}"
    if message_id := _plain(text(_P_MESSAGE_ID)):
        yield f"Message-ID: {message_id}"
    ticks = fixed.get(_SUBMITTED) or fixed.get(_DELIVERED)  # when it was sent, else when it came
    with contextlib.suppress(OverflowError):
        if ticks:
            yield f"Date: {format_datetime(_EPOCH + timedelta(microseconds=ticks // 10))}"


def _fixed(properties: bytes, header_bytes: int) -> dict[int, int]:
    """The values of fixed size, by id and type."""
    values = properties[header_bytes:]
    whole = values[: len(values) // _FIXED.size * _FIXED.size]
    return {tag: value for tag, _flags, value in _FIXED.iter_unpack(whole)}


def header_text(text: str) -> str:
    """A text for a header: as it is if it is plain, else encoded."""
    text = " ".join(text.split())
    if text.isascii() and text.isprintable() and "=?" not in text:
        return text
    return f"=?utf-8?B?{encodebytes(text.encode('utf-8', 'replace')).decode().replace('\n', '')}?="


def _plain(text: str) -> str:
    return "".join(char for char in text if char.isascii() and char.isprintable())


# winmail.dat ----------------------------------------------------------------------------------------

_SIGNATURE: Final = b"\x78\x9f\x3e\x22"
_HEAD_BYTES, _CHECKSUM_BYTES, _GUID_BYTES, _LONG_BYTES = 6, 2, 16, 4
_ATTRIBUTE: Final = struct.Struct("<BHHI")
_SUBJECT, _BODY, _CODE_PAGE, _PROPERTIES = 0x8004, 0x800C, 0x9007, 0x9003
_FILE_BEGINS, _FILE_TITLE, _FILE_DATA, _FILE_PROPERTIES = 0x9002, 0x8010, 0x800F, 0x9005
_NAMED, _SEVERAL = 0x8000, 0x1000
"""From this id on a property has a name of its own; this bit of a type says that there are several values."""
_FIXED_BYTES: Final = {
    0x02: 4, 0x03: 4, 0x04: 4, 0x05: 8, 0x06: 8, 0x07: 8, 0x0A: 4, 0x0B: 4, 0x14: 8, 0x40: 8, 0x48: 16,
}  # fmt: skip
"""By type, with what pads it to four bytes."""
_PROPERTIES_MAX: Final = 4_000


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
    packed.subject = _text_of(found.get(_P_SUBJECT), code_page) or packed.subject
    packed.text = _text_of(found.get(_P_TEXT), code_page)
    number = found.get(_P_CODE_PAGE, b"")
    own = int.from_bytes(number[:_LONG_BYTES], "little") if isinstance(number, bytes) else 0
    packed.html = _text_of(found.get(_P_HTML), _CODE_PAGES.get(own, f"cp{own}") if own else code_page)
    rtf = found.get(_P_RTF, b"")
    return rtf if isinstance(rtf, bytes) else b""


def _read_file(file: File, found: dict[int, str | bytes], depth: int) -> None:
    name = _text_of(found.get(_P_LONG_NAME), "") or _text_of(found.get(_P_SHORT_NAME), "")
    file.name = name or file.name
    file.type = _plain(_text_of(found.get(_P_TYPE), ""))
    file.content_id = _plain(_text_of(found.get(_P_CONTENT_ID), ""))
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


def _text_of(value: str | bytes | None, code_page: str) -> str:
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
