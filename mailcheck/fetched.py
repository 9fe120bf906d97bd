"""What a check learns of a mail server: mails, the cursor up to which all are known, the way in. Pure."""

import msgspec

INBOX = "INBOX"
UPLOADED = "UPLOADED"
"""The folder of mails that users added from files. Their numbers are ours, as those of Graph."""
IMPORTED = "IMPORTED"
"""The folder of mails that were taken over from another service, which kept no identity of them."""
GRAPH_UIDVALIDITY = 2**32
"""No UIDVALIDITY of IMAP, whose numbers have 32 bits.

A mailbox that goes over to Graph is read anew, as after any other change of UIDVALIDITY; its mails are then
numbered by us.
"""


class UidCursor(msgspec.Struct, frozen=True, gc=False):
    """All mails of `folder` up to and including `uid` are known, as long as `uidvalidity` holds.

    `link` (Graph only): the page from which the listing goes on. `rest`: mails up to and including it are not
    known yet, because a long history is read from its end.
    """

    folder: str
    uidvalidity: int
    uid: int
    link: str = ""
    rest: int = 0

    def knows(self, uid: int) -> bool:
        """Whether the mail of this UID is known."""
        return self.rest < uid <= self.uid


class Way(msgspec.Struct, frozen=True, gc=False):
    """How a grant was accepted the last time. Empty texts: it never was."""

    graph: bool = False
    token_url: str = ""
    scope: str = ""


class FetchedMail(msgspec.Struct, frozen=True, kw_only=True):
    """One mail as fetched; (folder, uidvalidity, uid) is its identity on the server.

    `date_ms` is the mail's own date, else the server's. `content` is a JSON document in UTF-8,
    `{text, html, attachments: [{name, type, size}], truncated}`, which is stored as a blob.
    `truncated`: the mail exceeds the size limit or its server cannot read it, so `content` holds
    only a part of it.
    """

    folder: str
    uidvalidity: int
    uid: int
    subject: str
    sender: str
    message_id: str
    date_ms: int
    internal_date_ms: int | None
    has_attachments: bool
    size: int
    truncated: bool
    content: bytes
    """Empty: only the headers were read; the rest is fetched later."""
    code: str = ""
    """The verification code that was found, "" if there is none or nobody looked."""
    code_confidence: float = 0.0
    remote_id: str = ""
    """Graph's immutable id, "" over IMAP."""
    recipients: str = ""
    """Its fields To and Cc."""
    source: bytes = b""
    """The mail itself, where it is kept because no server has it."""
