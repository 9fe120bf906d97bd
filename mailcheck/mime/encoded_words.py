"""Header values as readable text: RFC 2047 words, raw 8-bit text, one visible line. Pure; never raises."""

import base64
import binascii
import quopri
import re
import string

from huahuo.mailcheck.mime.charsets import clean, decode, guess

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
