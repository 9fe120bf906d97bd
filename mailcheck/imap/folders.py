"""The folders of a mailbox: what LIST says of each, and which one holds junk. Pure."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
from imapclient.imap_utf7 import decode as decode_utf7

from huahuo.mailcheck.imap.wire import Part

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
