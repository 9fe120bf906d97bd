"""A mail's bytes as a tree of parts, in linear time and bounded depth. Pure; never raises.

The standard library's parser is exact but recursive and, on hostile nesting, quadratic: one mail could
occupy a thread for hours. This parser knows only what a mailbox view needs, and accepts broken mails: a
part that cannot be split is shown as text, so no content is lost.
"""

import quopri
import re
import string
from collections.abc import Container
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from huahuo.mailcheck.mime.charsets import base64_bytes, decode, decode_words, one_line

DEPTH_MAX = 20
PARTS_MAX = 500
HEADER_BYTES_MAX = 256 * 1024
"""Bound of the header of one part. The rest of a longer one is not read."""
HEADERS_BYTES_MAX = 1024 * 1024
"""Bound of all headers of a mail. The root is read first, then the parts level by level."""
_VALUE_BYTES_MAX = 16 * 1024
_DELIMITERS_MAX = 10_000
_GUESS_BYTES = 64 * 1024

_HEADER = re.compile(rb"^[!-9;-~]{1,128}+[ \t]*+:", re.MULTILINE)
_USED = (
    b"subject|from|sender|to|cc|date|message-id|content-type|content-disposition|content-id"
    b"|content-transfer-encoding"
)
_USED_HEADER = re.compile(
    rb"^(" + _USED + rb")[ \t]*+:((?:[^\n]*+)(?:\n[ \t][^\n]*+)*+)", re.MULTILINE | re.IGNORECASE
)
_LINE_END = re.compile(rb"\r*\n")
_BLANK_LINE = re.compile(rb"\n\r{0,2}\n")
_PARAMETER = re.compile(rb';\s*([^\s=;"]{1,128})\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)', re.DOTALL)
_GUESSED_BOUNDARY = re.compile(rb"^--([^\r\n]{1,200})\r?\nContent-", re.MULTILINE | re.IGNORECASE)
_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,64}/[a-z0-9!#$&^_.+-]{1,64}")
_SHOWN_TYPES = frozenset({"text/plain", "text/html"})
_OF_MACHINES = frozenset({"multipart/report", "multipart/signed", "multipart/encrypted"})
"""Their parts are for programs: signatures, reports of delivery."""
_BASE64_BLANKS = b" \t\r\n="


_FOOTER_BYTES = 16 * 1024
_FOREIGN_LINE = re.compile(rb"(?<=\n)(?:[A-Za-z0-9+/= \t\r]{0,2000}[^A-Za-z0-9+/= \t\r\n]){2}")
"""One such character alone is damage amid base64, which is read without it."""
_BASE64_LINE = re.compile(rb"\n[A-Za-z0-9+/]{60,2000}=*\r?(?:\n|$)")


@dataclass(slots=True)
class Part:
    """One part. `headers` holds the first raw value, unfolded, of each used header by lower-case name.

    `body` is still transfer-encoded.
    """

    headers: dict[str, bytes]
    body: bytes
    parent_type: str = ""
    children: list["Part"] = field(default_factory=list)
    _types: tuple[bytes, str] | None = field(default=None, repr=False)
    """A value of Content-Type, and what it says: it is asked for some ten times."""

    def header(self, name: str) -> bytes:
        """The first value of a header, empty if there is none."""
        return self.headers.get(name, b"")

    @property
    def type(self) -> str:
        """The media type in lower case. A missing or malformed one means plain text."""
        value = self.headers.get("content-type", b"")
        if self._types is None or self._types[0] is not value:
            self._types = value, self._type(value)
        return self._types[1]

    def _type(self, value: bytes) -> str:
        text = value.partition(b";")[0].strip().lower().decode("ascii", "replace")
        if _TYPE.fullmatch(text):
            return text
        return "message/rfc822" if not text and self.parent_type == "multipart/digest" else "text/plain"

    @property
    def disposition(self) -> str:
        """`attachment`, `inline`, … or empty."""
        head = self.header("content-disposition").partition(b";")[0]
        return head.strip().lower().decode("ascii", "replace")

    @property
    def charset(self) -> str:
        """The declared character set, empty if none."""
        return self.parameter("content-type", "charset")

    @property
    def name(self) -> str:
        """The file name, from Content-Disposition or Content-Type, empty if there is none."""
        found = self.parameter("content-disposition", "filename") or self.parameter("content-type", "name")
        return one_line(found, chars_max=255)

    @property
    def content_id(self) -> str:
        """Content-ID without its brackets, empty if there is none."""
        return self.header("content-id").strip(b" \t<>").decode("latin-1")

    def parameter(self, header: str, name: str) -> str:
        """A parameter of a header as text (RFC 2231 forms included), empty if there is none."""
        return _parameters(self.header(header)).get(name, "")

    def decoded(self, bytes_max: int) -> bytes:
        """At least the first `bytes_max` bytes of the content, transfer encoding removed."""
        encoding = self._encoding
        if encoding.startswith(b"base64"):
            return base64_bytes(_without_footer(self.body[: 2 * bytes_max]))
        if encoding.startswith(b"quoted-printable"):
            return quopri.decodestring(self.body[: 3 * bytes_max])
        return self.body[:bytes_max]

    @property
    def _encoding(self) -> bytes:
        return self.header("content-transfer-encoding").strip(b" \t\"'").lower()

    @property
    def size(self) -> int:
        """The decoded size in bytes, estimated where decoding would be expensive."""
        if self._encoding.startswith(b"base64"):
            return len(self.body.translate(None, _BASE64_BLANKS)) * 3 // 4
        return len(self.body)


def _without_footer(body: bytes) -> bytes:
    """Base64 without the lines in clear text that a list or a scanner put below it."""
    foreign = _FOREIGN_LINE.search(body, max(0, len(body) - _FOOTER_BYTES))
    if foreign is None or _BASE64_LINE.search(body, foreign.end()):
        return body
    return body[: foreign.start()]


def is_attachment(part: Part) -> bool:
    """Whether a user would call it one: marked as such, a named file, a forwarded mail; no inline picture."""
    if part.disposition == "attachment":
        return True
    if part.type == "message/rfc822":
        return part.parent_type != "multipart/report"
    if part.type.startswith("text/") or not part.name:
        return False
    return not (part.parent_type == "multipart/related" and part.header("content-id"))


def is_hidden_file(part: Part, shown: Container[str]) -> bool:
    """Whether it is a file though nothing marks it as one: a scan without a name, an invitation, a table.

    `shown`: the ids of parts that the HTML refers to.
    """
    if part.parent_type in _OF_MACHINES or not part.body.strip() or part.content_id in shown:
        return False
    if part.type.startswith("image/"):
        return part.parent_type != "multipart/related" or part.content_id != ""
    if part.type.startswith("text/"):
        is_form = part.parent_type == "multipart/alternative"  # of the text, for other programs
        return part.type == "text/calendar" or not (part.type in _SHOWN_TYPES or is_form)
    return part.type.startswith(("application/", "audio/", "video/"))


def parse(raw: bytes) -> Part:
    """The tree of a whole mail."""
    if b"\n" not in raw and b"\r" in raw:
        raw = raw.replace(b"\r", b"\n")
    if raw.startswith((b"From ", b">From ")):
        raw = raw.partition(b"\n")[2]
    root, left_bytes = _part(raw, "", HEADERS_BYTES_MAX)
    todo = [(root, 1)]
    count = 1
    while todo and count < PARTS_MAX:
        part, depth = todo.pop(0)
        if depth >= DEPTH_MAX or not part.type.startswith("multipart/"):
            continue
        for piece in _pieces(part)[: PARTS_MAX - count]:
            child, left_bytes = _part(piece, part.type, left_bytes)
            part.children.append(child)
        if part.children:
            part.body = b""  # else each level would keep a copy of all levels below it
        count += len(part.children)
        todo += [(child, depth + 1) for child in part.children]
    return root


def _part(raw: bytes, parent_type: str, header_bytes_max: int) -> tuple[Part, int]:
    """A part, and how many bytes of headers may still be read after it."""
    headers, body, read_bytes = _split(raw, min(header_bytes_max, HEADER_BYTES_MAX))
    return Part(headers, body, parent_type), header_bytes_max - read_bytes


def _split(raw: bytes, header_bytes_max: int) -> tuple[dict[str, bytes], bytes, int]:
    """Headers, body, bytes of headers read. If nothing looks like a header, everything is body."""
    if raw.startswith((b"\n", b"\r\n")):
        return {}, raw.partition(b"\n")[2], 0
    blank = _BLANK_LINE.search(raw)
    block = raw[: min(header_bytes_max, blank.start() if blank else len(raw))]
    if not _HEADER.search(block):
        return {}, raw, len(block)
    headers: dict[str, bytes] = {}
    for match in _USED_HEADER.finditer(block):
        value = _LINE_END.sub(b"", match[2][:_VALUE_BYTES_MAX])
        headers.setdefault(match[1].decode("ascii").lower(), value.strip())
    return headers, raw[blank.end() :] if blank else b"", len(block)


def _pieces(part: Part) -> list[bytes]:
    """The raw children of a multipart; none if no delimiter is found."""
    boundary = _raw_boundary(part)
    pieces = _between(part.body, boundary) if boundary else []
    if not pieces:
        guessed = _GUESSED_BOUNDARY.search(part.body, 0, _GUESS_BYTES)
        pieces = _between(part.body, guessed[1].rstrip()) if guessed else []
    return pieces


def _raw_boundary(part: Part) -> bytes:
    for match in _PARAMETER.finditer(part.header("content-type")):
        if match[1].lower() in {b"boundary", b"boundary*"}:
            return _unquoted(match[2]).rstrip()
    return b""


def _between(body: bytes, boundary: bytes) -> list[bytes]:
    delimiter = b"--" + boundary
    pieces: list[bytes] = []
    start = -1
    at = 0 if body.startswith(delimiter) else _next(body, delimiter, 0)
    for _ in range(_DELIMITERS_MAX):
        if at < 0:
            break
        line_end = body.find(b"\n", at)
        line_end = len(body) if line_end < 0 else line_end
        rest = body[at + len(delimiter) : min(line_end, at + len(delimiter) + 200)].strip()
        if rest in {b"", b"--"}:
            if start >= 0:
                pieces.append(_without_line_end(body[start:at]))
            start = -1 if rest else line_end + 1
            if rest or len(pieces) >= PARTS_MAX:
                return pieces
        at = _next(body, delimiter, at + len(delimiter))
    if start >= 0:
        pieces.append(body[start:])
    return pieces


def _next(body: bytes, delimiter: bytes, after: int) -> int:
    found = body.find(b"\n" + delimiter, after)
    return found if found < 0 else found + 1


def _without_line_end(piece: bytes) -> bytes:
    return piece.removesuffix(b"\n").removesuffix(b"\r")


def _unquoted(value: bytes) -> bytes:
    value = value.strip()
    if len(value) > 1 and value.startswith(b'"') and value.endswith(b'"'):
        return re.sub(rb"\\(.)", rb"\1", value[1:-1], flags=re.DOTALL)
    return value.strip(b'"')


def _parameters(value: bytes) -> dict[str, str]:
    """All parameters of a header value, with continued ones joined in order."""
    plain: dict[str, str] = {}
    continued: dict[str, dict[int, tuple[bool, bytes]]] = {}
    for match in _PARAMETER.finditer(value[:_VALUE_BYTES_MAX]):
        key, star, tail = match[1].decode("ascii", "replace").lower().partition("*")
        text = _unquoted(match[2])
        if not star:
            plain.setdefault(key, decode_words(text))
            continue
        encoded = not tail or tail.endswith("*")
        digits = tail.rstrip("*") or "0"
        if len(digits) <= 3 and set(digits) <= set(string.digits):  # noqa: PLR2004  a thousand pieces will do
            continued.setdefault(key, {}).setdefault(int(digits), (encoded, text))
    for key, segments in continued.items():
        plain[key] = _joined([segments[index] for index in sorted(segments)])
    return plain


def _joined(segments: list[tuple[bool, bytes]]) -> str:
    """RFC 2231: the first encoded segment may begin with `charset'language'`."""
    charset = b""
    encoded, first = segments[0]
    if encoded and first.count(b"'") > 1:
        charset, _, first = first.split(b"'", 2)
    raw = b"".join(
        unquote_to_bytes(text) if is_encoded else text
        for is_encoded, text in [(encoded, first), *segments[1:]]
    )
    return decode(raw, charset.decode("ascii", "replace"))
