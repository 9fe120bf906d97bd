"""Files that a browser uploads in a form (RFC 7578), and the mails in them. Pure."""

import re
from collections.abc import Iterator
from typing import Final

from huahuo.mailcheck.mime.outlook import MAGIC
from huahuo.mailcheck.mime.parts import parse

MAILS_MAX: Final = 200
"""Of one file."""
_BETWEEN: Final = re.compile(rb"(?:^|\r?\n)From [^\r\n]*\r?\n")
_LENGTH: Final = re.compile(rb"\s*[0-9]{1,12}\s*\r?\n")


def uploaded(content_type: str, body: bytes) -> tuple[str, bytes] | None:
    """(name, content) of the first file in a form, None if there is none."""
    if not content_type.lower().startswith("multipart/form-data"):
        return None
    # A form is a multipart as mails have it, except for its type.
    kind = content_type.encode("latin-1", "replace").replace(b"\r", b"").replace(b"\n", b"")
    mixed = re.sub(rb"^multipart/form-data", b"multipart/mixed", kind, flags=re.IGNORECASE)
    form = parse(b"Content-Type: " + mixed + b"\r\n\r\n" + body)
    for part in form.children:
        if part.name:
            return part.name, part.body
    return None


def mails_in(kind: str, content: bytes) -> Iterator[bytes]:
    """The mails in a file of this kind, at most `MAILS_MAX`."""
    if kind == "mbox":
        pieces = [piece for piece in _BETWEEN.split(content) if piece.strip()]
        yield from (re.sub(rb"(?m)^>(>*From )", rb"\1", piece) for piece in pieces[:MAILS_MAX])
    elif kind == "msg" and not content.startswith(MAGIC):
        return  # it has the name of a file of Outlook only
    elif content.strip():
        yield _LENGTH.sub(b"", content, count=1) if kind == "emlx" and _LENGTH.match(content) else content
