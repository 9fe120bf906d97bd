"""IMAP's grammar: writing arguments, classifying response lines, reading a FETCH. Pure.

imapclient's parser parses the inside of a response. What it raises for a malformed one becomes
`BrokenProtocol`.

The folders of a mailbox: what LIST says of each, and which one holds junk. Pure.
"""

import base64
import contextlib
import datetime as dt
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec
from imapclient.imap_utf7 import decode as decode_utf7
from imapclient.response_parser import parse_fetch_response, parse_message_list

from huahuo.eventstore.model import Secret
from huahuo.mailcheck.servers.faults import BadCredentials, BrokenProtocol

UID_MAX = 2**32 - 1
CREDENTIAL_BYTES_MAX = 8 * 1024
_CAPABILITIES_KEPT = 64
"""Lists of capabilities that are remembered, each of at most a line."""

_STATUSES = (b"OK", b"NO", b"BAD", b"BYE", b"PREAUTH")
_LITERAL = re.compile(rb"\{(\d{1,10})\}$")
_CODE = re.compile(rb"\[([^\] ]{1,64})(?: ([^\]]*))?\] ?")
_NUMBERS = re.compile(
    rb"[0-9]{1,10} FETCH \(UID ([0-9]{1,10}) RFC822\.SIZE ([0-9]{1,18}) INTERNALDATE "
    rb'"([ 0-9][0-9])-([A-Za-z]{3})-([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) ([+-])([0-9]{2})([0-9]{2})"\)'
)
_BODY_OF = re.compile(rb"[0-9]{1,10} FETCH \(UID ([1-9][0-9]{0,8}) BODY\[(?:HEADER)?\](?:<0>)? \{[0-9]+\}")
_MONTHS = {
    month: number
    for number, month in enumerate(b"jan feb mar apr may jun jul aug sep oct nov dec".split(), start=1)
}
_FETCH = re.compile(rb"(\d{1,10}) FETCH ", re.IGNORECASE)
_BODIES = (b"BODY[]", b"BODY[HEADER]")
_QUOTABLE = re.compile(r"[ -~]*")

type Part = bytes | tuple[bytes, bytes]
"""A piece of a response: a text, or a text that ends in `{n}` with the n bytes after it."""


class Status(msgspec.Struct, frozen=True):
    """A status line. `tag` is `*` or the command's tag, `code` is in upper case or empty."""

    tag: bytes
    status: str
    code: str
    argument: bytes
    text: bytes

    @property
    def told(self) -> bytes:
        """The text for a person, behind the address of the web page that it is about."""
        return b"%b %b" % (self.argument, self.text) if self.code == "WEBALERT" else self.text


class Fetched(msgspec.Struct, frozen=True):
    """What one FETCH response says about a mail. None: the response does not say."""

    uid: int
    size: int | None = None
    internal_date_ms: int | None = None
    body: bytes | None = None


def quoted(text: str) -> bytes | None:
    """`text` as a quoted string, None if it needs a literal (anything but printable ASCII)."""
    if not _QUOTABLE.fullmatch(text):
        return None
    return b'"' + text.replace("\\", "\\\\").replace('"', '\\"').encode("ascii") + b'"'


class Sealed(bytes):
    """Bytes with a secret in them. Debuggers and tracebacks, which use `repr`, do not show them."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Sealed('[sealed]')"


def login_pieces(user: str, password: Secret) -> list[bytes]:
    r"""The LOGIN command without its tag. The server must answer `+` between two pieces.

    Raises:
        BadCredentials: they hold CR, LF or NUL (which would allow injected commands), are too long,
            or are not valid Unicode.
    """
    if not (_may_be_sent(user) and _may_be_sent(password.reveal())):
        raise BadCredentials("not allowed in user or password")
    pieces = [b"LOGIN"]
    for text in (user, password.reveal()):
        raw = text.encode()
        word = quoted(text)
        if word is not None:
            pieces[-1] += b" " + word
        else:
            pieces[-1] += b" {%d}\r\n" % len(raw)
            pieces.append(raw)
    pieces[-1] += b"\r\n"
    return [Sealed(piece) for piece in pieces]


def authenticate_pieces(
    mechanism: str, user: str, secret: Secret, *, host: str, port: int, initial: bool
) -> list[bytes]:
    """The AUTHENTICATE command without its tag. The server must answer `+` between two pieces.

    `initial`: the server takes the response with the command (SASL-IR). The last piece answers the challenge
    by which a server says why it refuses a token (RFC 7628); without it there is no tagged answer.

    Raises:
        BadCredentials: as `login_pieces`.
    """
    if not (_may_be_sent(user) and _may_be_sent(secret.reveal())):
        raise BadCredentials("not allowed in user or password")
    given = secret.reveal()
    match mechanism:
        case "PLAIN":
            text, refused = f"\0{user}\0{given}", b""
        case "OAUTHBEARER":
            name = user.replace("=", "=3D").replace(",", "=2C")
            text = f"n,a={name},\1host={host}\1port={port}\1auth=Bearer {given}\1\1"
            refused = base64.b64encode(b"\1") + b"\r\n"
        case _:
            text, refused = f"user={user}\1auth=Bearer {given}\1\1", b"\r\n"
    response = base64.b64encode(text.encode()) + b"\r\n"
    command = b"AUTHENTICATE " + mechanism.encode()
    pieces = [command + b" " + response] if initial else [command + b"\r\n", response]
    return [Sealed(piece) for piece in ([*pieces, refused] if refused else pieces)]


def _may_be_sent(text: str) -> bool:
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        return False
    return len(raw) <= CREDENTIAL_BYTES_MAX and not any(byte in raw for byte in b"\r\n\0")


def uid_set(uids: Sequence[int]) -> bytes:
    """Ascending UIDs as a sequence set: `1:3,7`."""
    runs: list[tuple[int, int]] = []
    for uid in uids:
        if runs and uid == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], uid)
        else:
            runs.append((uid, uid))
    return b",".join(b"%d" % a if a == b else b"%d:%d" % (a, b) for a, b in runs)


def literal_size(line: bytes) -> int | None:
    """How many bytes of a literal follow this line, None if the line ends the response."""
    match = _LITERAL.search(line)
    return int(match[1]) if match else None


def status(line: bytes) -> Status | None:
    """`line` as a status, None if it is untagged data such as `* 3 FETCH …`.

    Raises:
        BrokenProtocol: the line is neither.
    """
    tag, _, rest = line.partition(b" ")
    word, _, text = rest.partition(b" ")
    name = word.upper()
    if name in _STATUSES:
        code = _CODE.match(text)
        if code is None:
            return Status(tag, name.decode(), "", b"", text)
        first = code[1].decode("ascii", "replace").upper()
        return Status(tag, name.decode(), first, code[2] or b"", text[code.end() :])
    if tag != b"*":
        raise BrokenProtocol("a line is no IMAP response")
    return None


class ExaminedFolder(msgspec.Struct, frozen=True, gc=False):
    """An opened folder: its UIDVALIDITY and how many mails it holds.

    `uidnext`: no mail in it has this UID or a higher one (RFC 3501); 0 if the server does not say.
    """

    uidvalidity: int
    exists: int
    uidnext: int = 0


def word(parts: list[Part]) -> tuple[bytes, bytes]:
    """A response as (first word in upper case, rest). Both are empty if it holds literals."""
    if len(parts) != 1 or not isinstance(parts[0], bytes):
        return b"", b""
    word, _, rest = parts[0].partition(b" ")
    return word.upper(), rest


def number(text: bytes) -> int | None:
    """`text` as a number of at most 32 bits, None if it is not one."""
    return int(text) if text.isdigit() and len(text) <= 10 and int(text) <= UID_MAX else None  # noqa: PLR2004  digits of 2**32


def search_uids(data: bytes) -> list[int]:
    """The UIDs of a SEARCH response (the text after the word SEARCH).

    Raises:
        BrokenProtocol: it holds anything but UIDs.
    """
    try:
        uids = list(parse_message_list([data.strip()]))
    except Exception:  # noqa: BLE001  the parser's errors are of many types, all of them the server's fault
        raise BrokenProtocol("a SEARCH response cannot be read") from None
    if any(not 0 < uid <= UID_MAX for uid in uids):
        raise BrokenProtocol("a SEARCH response holds what is no UID")
    return uids


def fetched(parts: Sequence[Part]) -> Fetched | None:
    """What a response says about a mail, None if it is not a FETCH or names no UID.

    Raises:
        BrokenProtocol: it is a FETCH that cannot be parsed.
    """
    usual = _usual(parts)
    if usual is not None:
        return usual
    first = parts[0]
    head = first[0] if isinstance(first, tuple) else first
    match = _FETCH.match(head)
    if match is None:
        return None
    rest = match[1] + b" " + head[match.end() :]
    text: list[Any] = [(rest, first[1]) if isinstance(first, tuple) else rest, *parts[1:]]
    try:
        answer = parse_fetch_response(text, normalise_times=False, uid_is_key=False)
        return _from_items(dict(next(iter(answer.values()))))
    except Exception:  # noqa: BLE001  as above; deep nesting is a RecursionError
        raise BrokenProtocol("a FETCH response cannot be read") from None


def _usual(parts: Sequence[Part]) -> Fetched | None:
    """The same for the two forms that nearly all responses have; None: it has another one."""
    first = parts[0]
    if isinstance(first, tuple):
        body_of = _BODY_OF.fullmatch(first[0])
        whole = body_of is not None and len(parts) == 2 and parts[1] == b")"  # noqa: PLR2004  a literal, its end
        return Fetched(int(body_of[1]), body=first[1]) if body_of is not None and whole else None
    numbers = _NUMBERS.fullmatch(first) if len(parts) == 1 else None
    if numbers is None or not 0 < int(numbers[1]) <= UID_MAX:
        return None
    day, month, year, hour, minute, second, east, hours, minutes = numbers.groups()[2:]
    offset = dt.timedelta(hours=int(hours), minutes=int(minutes)) * (1 if east == b"+" else -1)
    date = None
    with contextlib.suppress(ValueError, KeyError):  # there is no such day or zone: the mail has no date
        date = dt.datetime(
            int(year), _MONTHS[month.lower()], int(day), int(hour), int(minute), int(second),
            tzinfo=dt.timezone(offset),
        )  # fmt: skip
    return Fetched(int(numbers[1]), size=int(numbers[2]), internal_date_ms=_milliseconds(date))


def _from_items(items: dict[bytes, Any]) -> Fetched | None:
    uid = items.get(b"UID")
    if not isinstance(uid, int) or not 0 < uid <= UID_MAX:
        return None
    size = items.get(b"RFC822.SIZE")
    body = next((value for name, value in items.items() if name.startswith(_BODIES)), None)
    if isinstance(body, int):  # a body that consists of digits, sent as an atom or a quoted string
        body = b"%d" % body
    return Fetched(
        uid=uid,
        size=size if isinstance(size, int) else None,
        internal_date_ms=_milliseconds(items.get(b"INTERNALDATE")),
        body=body if isinstance(body, bytes) else None,
    )


def _milliseconds(date: object) -> int | None:
    if not isinstance(date, dt.datetime):
        return None
    aware = date if date.tzinfo else date.replace(tzinfo=dt.UTC)
    return round((aware - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)).total_seconds() * 1000)


@lru_cache(maxsize=_CAPABILITIES_KEPT)
def capabilities(words: bytes) -> frozenset[str]:
    """Capability names in upper case. A server says the same to all its mailboxes."""
    return frozenset(word.decode("ascii", "replace") for word in words.upper().split())


JUNK: Final = "junk"
"""Asks for the folder of junk, whatever it is called: by its special use (RFC 6154), else by its name."""

_JUNK_USE: Final = "\\JUNK"
_JUNK_NAMES: Final = (
    "Junk Email",
    "Junk E-mail",
    "Junk",
    "Spam",
    "[Gmail]/Spam",
    "Bulk Mail",
    "垃圾邮件",
    "垃圾郵件",
    "垃圾箱",
    "迷惑メール",
    "스팸",
    "스팸메일함",
    "정크 메일",
    "Spamverdacht",
    "Junk-E-Mail",
    "Courrier indésirable",
    "Pourriel",
    "Correo no deseado",
    "Spam-Verdacht",
    "Спам",
    "Нежелательная почта",
    "junkemail",
)
"""What providers call it where they do not say its use, the likeliest first."""
_LIST: Final = re.compile(rb'X?LIST \(([^)]*)\) (?:NIL|"(?:[^"\\]|\\.)*") (.*)', re.IGNORECASE | re.DOTALL)
_SENDABLE: Final = re.compile(rb"[ -~]{1,1000}")
"""As `wire.quoted` takes them. Others, such as an end of a line, may come in a literal."""
_NOT_SELECTABLE: Final = frozenset({"\\NOSELECT", "\\NONEXISTENT"})


class Folder(msgspec.Struct, frozen=True):
    """A folder. `wire` is its name as commands spell it, `name` as people do; `uses` are in upper case."""

    wire: str
    name: str
    uses: frozenset[str]


def folder_of(parts: Sequence[Part]) -> Folder | None:
    """The folder of a LIST response, None if it is another response or its name cannot be sent back."""
    first = parts[0]
    head = first[0] if isinstance(first, tuple) else first
    match = _LIST.match(head)
    if match is None:
        return None
    if isinstance(first, tuple):
        raw = first[1]
    elif match[2].startswith(b'"'):
        raw = re.sub(rb"\\(.)", rb"\1", match[2].strip()[1:-1])
    else:
        raw = match[2].strip()
    if not _SENDABLE.fullmatch(raw):
        return None
    try:
        name = decode_utf7(raw)
    except Exception:  # noqa: BLE001  its errors are of several types, and the server's fault
        name = raw.decode("ascii")
    uses = frozenset(match[1].decode("ascii", "replace").upper().split())
    return Folder(raw.decode("ascii"), name, uses)


def selectable(folders: Iterable[Folder]) -> list[Folder]:
    """Those that hold mails."""
    return [folder for folder in folders if not folder.uses & _NOT_SELECTABLE]


def chosen(folders: Iterable[Folder], wanted: Iterable[str]) -> list[Folder]:
    """The folders that are wanted: `JUNK`, or names without regard to case. Each once, and not INBOX."""
    there = selectable(folders)
    found: dict[str, Folder] = {}
    for want in wanted:
        folder = _junk(there) if want.casefold() == JUNK else _by_name(there, (want,))
        if folder is not None and folder.name.upper() != "INBOX":
            found[folder.wire] = folder
    return list(found.values())


def _junk(folders: Sequence[Folder]) -> Folder | None:
    by_use = next((folder for folder in folders if _JUNK_USE in folder.uses), None)
    return by_use or _by_name(folders, _JUNK_NAMES)


def _by_name(folders: Sequence[Folder], names: Iterable[str]) -> Folder | None:
    """The first of the names that a folder has, alone or below INBOX."""
    by_name = {folder.name.casefold(): folder for folder in reversed(folders)}
    for name in names:
        for spelling in (name, f"INBOX.{name}", f"INBOX/{name}"):
            if (folder := by_name.get(spelling.casefold())) is not None:
                return folder
    return None
