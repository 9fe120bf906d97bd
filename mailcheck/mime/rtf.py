"""The text of a mail that Outlook kept as compressed RTF alone (MS-OXRTFCP). Pure, in linear time."""

import re
import struct
from typing import Final

TEXT_BYTES_MAX: Final = 1024 * 1024
"""How much of the RTF is unpacked and read."""
_HEADER: Final = struct.Struct("<II4sI")
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
_DEPTH_MAX: Final = 1_000


def text_of_rtf(packed: bytes) -> str:
    """The text; "" if it is no such RTF."""
    return _text(_unpacked(packed)).strip()


def _unpacked(packed: bytes) -> bytes:
    if len(packed) < _HEADER.size:
        return b""
    _size, raw_size, kind, _crc = _HEADER.unpack_from(packed)
    most = min(raw_size, TEXT_BYTES_MAX)
    if kind == _PLAIN:
        return packed[_HEADER.size :][:most]
    if kind != _PACKED:
        return b""
    window = bytearray(_BEGINNING.ljust(_WINDOW, b"\0"))
    place = len(_BEGINNING)
    found = bytearray()
    at = _HEADER.size
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


def _text(rtf: bytes) -> str:
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
            if len(groups) >= _DEPTH_MAX:
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
