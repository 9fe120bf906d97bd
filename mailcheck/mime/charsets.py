"""From bytes to text, even if a mail declares the wrong character set. Pure; never raises.

Only the codecs named here are looked up. Python's own table also holds compressors and codecs that take
quadratic time, and its cache keeps every unknown name for the life of the process.

Header values as readable text: RFC 2047 words, raw 8-bit text, one visible line. Pure; never raises.
"""

import base64
import binascii
import codecs
import quopri
import re
import string
from functools import lru_cache
from types import MappingProxyType

_NAMES: dict[str, tuple[str, ...]] = {
    "utf-8": ("utf8", "unicode11utf8", "xunicode20utf8", "utf8mb4"),
    "utf-16": ("utf16",),
    "utf-16-le": ("utf16le",),
    "utf-16-be": ("utf16be",),
    "utf-7": ("utf7", "unicode11utf7"),
    # The supersets that senders mean. Browsers map these labels in the same way.
    "gb18030": (
        *("gb2312", "gbk", "gb18030", "gb", "cp936", "ms936", "windows936", "xgbk", "euccn"),
        *("eucgb2312cn", "chinese", "csgb2312", "gb231280", "isoir58"),
    ),
    "hz": ("hz", "hzgb2312"),
    "big5hkscs": ("big5", "big5hkscs", "cp950", "csbig5", "xxbig5", "cnbig5", "big5tw"),
    "iso2022_jp_2": ("iso2022jp", "csiso2022jp", "iso2022jp1", "iso2022jp2", "iso2022jpms"),
    "cp932": ("shiftjis", "sjis", "xsjis", "cp932", "windows31j", "ms932", "csshiftjis"),
    "euc_jp": ("eucjp", "xeucjp"),
    "cp949": ("euckr", "ksc56011987", "ksc5601", "ksx1001", "cp949", "uhc", "windows949", "korean"),
    "iso2022_kr": ("iso2022kr", "csiso2022kr"),
    "johab": ("johab", "cp1361"),
    "koi8-r": ("koi8r", "koi8", "cskoi8r"),
    "koi8-u": ("koi8u", "koi8ru"),
    "cp866": ("cp866", "ibm866"),
    "ascii": ("usascii", "ascii", "ansix341968", "iso646us"),
    "cp1252": ("latin1", "iso88591", "l1", "cp819", "windows1252", "cp1252"),
    "cp1254": ("iso88599", "latin5", "windows1254", "cp1254"),
    "cp874": ("tis620", "windows874", "iso885911", "cp874"),
    "mac-roman": ("macintosh", "macroman", "xmacroman"),
    "cp437": ("cp437", "ibm437"),
    "cp850": ("cp850", "ibm850"),
    "cp852": ("cp852", "ibm852"),
    "cp855": ("cp855", "ibm855"),
}
_NAMES |= {f"iso8859-{n}": (f"iso8859{n}",) for n in (2, 3, 4, 5, 6, 7, 8, 10, 13, 14, 15, 16)}
_NAMES |= {f"cp{n}": (f"windows{n}", f"cp{n}") for n in (1250, 1251, 1253, 1255, 1256, 1257, 1258)}
_NAMES["iso8859-2"] += ("latin2",)
_NAMES["iso8859-8"] += ("iso88598i", "iso88598e")
_NAMES["iso8859-6"] += ("iso88596i", "iso88596e")

_CODECS = MappingProxyType({alias: codec for codec, aliases in _NAMES.items() for alias in aliases})

_LABEL_CHARS = 64
_SAMPLE_BYTES, _CHARACTERS_MIN = 4096, 2
_OF_PAIRS = frozenset(("gb18030", "big5hkscs", "cp932", "euc_jp", "cp949"))
"""East Asian sets that take almost any bytes, also those of UTF-8, for some characters."""
_OF_THREE = re.compile(b"[\xe3-\xed][\x80-\xbf]{2}")
"""A character of East Asia in UTF-8."""
_SURROGATES = re.compile("[\ud800-\udfff]")


def codec_of(label: str) -> str | None:
    """The codec for a character set's name as mails write it, None for an unknown name."""
    return _codec_of(label[:_LABEL_CHARS]) if label else None


@lru_cache(maxsize=256)
def _codec_of(label: str) -> str | None:
    return _CODECS.get("".join(char for char in label.lower() if char.isascii() and char.isalnum()))


def decode(raw: bytes, label: str, *, fallback: str = "") -> str:
    """`raw` as text in the character set `label`. If the label is unknown or clearly wrong, it is guessed.

    `fallback` is a hint for guessing, such as the character set of the enclosing mail. The result has no
    lone surrogates and no NULs.
    """
    codec = codec_of(label)
    # Many senders label other 8-bit text as ASCII or Latin-1. UTF-8 can be recognised reliably, so it is
    # tried first.
    if codec in {None, "ascii"}:
        return guess(raw, fallback)
    if codec == "cp1252":
        return guess(raw, label)
    if codec in _OF_PAIRS and _is_utf8(raw):
        return clean(raw.decode("utf-8", "replace"))
    for candidate in (codec, "utf-8"):
        try:
            return clean(raw.decode(candidate))
        except UnicodeError:
            continue
    shown = raw.decode(codec, "replace")
    if 2 * shown.count("\ufffd") > sum(not char.isascii() for char in shown):
        return guess(raw, fallback)
    return clean(shown)


def _is_utf8(raw: bytes) -> bool:
    """Whether it is UTF-8 with some East Asian characters, as no text of `_OF_PAIRS` happens to be.

    The last character may be cut.
    """
    if len(_OF_THREE.findall(raw[:_SAMPLE_BYTES])) < _CHARACTERS_MIN:
        return False
    try:
        codecs.utf_8_decode(raw, "strict", False)
    except UnicodeError:
        return False
    return True


def guess(raw: bytes, hint: str = "") -> str:
    """`raw` as text in the first of UTF-8, `hint` and GB18030 that decodes it, else Latin-1."""
    if raw.isascii():
        return raw.decode("ascii").replace("\0", "")
    for codec in ("utf-8", codec_of(hint), "gb18030"):
        try:
            if codec is not None:
                return clean(raw.decode(codec))
        except UnicodeError:
            continue
    return clean(raw.decode("cp1252", "replace"))


def clean(text: str) -> str:
    """`text` without NULs and lone surrogates, which JSON or a database cannot hold, and without its mark."""
    return _SURROGATES.sub("\ufffd", text).replace("\0", "").removeprefix("\ufeff")


# RFC 2047 forbids blanks in a word, but many senders put them into Q words, so they are accepted.
_WORD = re.compile(rb"=\?([^?\s*]{1,64})(?:\*[^?\s]{0,32})?\?([bBqQ])\?([^?\r\n]{0,4096})\?=")
# Controls, and characters that reorder or hide the text around them (bidirectional embeddings, overrides
# and isolates, byte-order marks). Joiners and direction marks stay, because scripts and emoji need them.
_HIDDEN = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb]")
_NOT_BASE64 = bytes(set(range(256)) - set((string.ascii_letters + string.digits + "+/").encode()))
_BLANKS_ONLY = re.compile(" {2,}")
_BLANKS = re.compile("[ \t\r\n\x0b\x0c\x85\u2028\u2029]+")


def readable(raw: bytes, *, charset: str = "", chars_max: int = 1000) -> str:
    """A header's value, decoded, on one line. `charset`, a hint for 8-bit text, is that of the mail."""
    return one_line(decode_words(raw, charset=charset), chars_max=chars_max)


def one_line(text: str, *, chars_max: int) -> str:
    """`text` without controls and line breaks, cut to `chars_max` characters."""
    if text.isascii() and text.isprintable():  # as most are
        shown = _BLANKS_ONLY.sub(" ", text).strip() if "  " in text else text.strip()
    else:
        shown = _BLANKS.sub(" ", _HIDDEN.sub("", clean(text))).strip()
    return shown if len(shown) <= chars_max else shown[: chars_max - 1] + "…"


def decode_words(raw: bytes, *, charset: str = "") -> str:
    """`raw` with its encoded words decoded.

    Neighbouring words of one character set and encoding are joined as bytes before decoding, because
    some senders split a word inside a character.
    """
    if b"=?" not in raw:
        return guess(raw, charset)
    pieces: list[str] = []
    run = bytearray()
    run_label = ""
    end = 0
    for match in _WORD.finditer(raw):
        between = raw[end : match.start()]
        label = match[1].decode("ascii", "replace").lower()
        adjacent = bool(run_label) and not between.strip()
        if not (adjacent and label == run_label):
            pieces.append(decode(bytes(run), run_label, fallback=charset))
            run.clear()
        if not adjacent:
            pieces.append(guess(between, charset))
        run_label = label
        run += _word_bytes(match[2], match[3])
        end = match.end()
    pieces.append(decode(bytes(run), run_label, fallback=charset))
    pieces.append(guess(raw[end:], charset))
    return "".join(pieces)


def _word_bytes(encoding: bytes, text: bytes) -> bytes:
    if encoding in b"qQ":
        return quopri.decodestring(text, header=True)
    return base64_bytes(text)


def base64_bytes(text: bytes) -> bytes:
    """Decode as much of broken base64 as possible: skip foreign characters, restore the padding."""
    kept = text.translate(None, _NOT_BASE64)
    if len(kept) % 4 == 1:
        kept = kept[:-1]
    try:
        return base64.b64decode(kept + b"=" * (-len(kept) % 4))
    except binascii.Error:
        return b""
