"""What a check reads from a mail server: mails, and the cursor up to which all are known. Pure."""

import msgspec

INBOX = "INBOX"


class UidCursor(msgspec.Struct, frozen=True, gc=False):
    """All mails of `folder` up to and including `uid` are known, as long as `uidvalidity` holds."""

    folder: str
    uidvalidity: int
    uid: int


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
