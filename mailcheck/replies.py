"""Answers to the domain's commands and queries: JSON objects of PROTOCOL 6. Pure."""

from typing import Any, Self

import msgspec
from msgspec import UNSET, UnsetType

from huahuo.actors.plugins.calls import Refusal, error_body
from huahuo.mailcheck.row import Row
from huahuo.mailcheck.tables.records import MailRecord


class LineFailure(msgspec.Struct, frozen=True, gc=False):
    """An import line that was refused, by its number. The text may hold a password and is not repeated."""

    line: int
    reason: str


class Success(msgspec.Struct, tag="success", tag_field="type", omit_defaults=True):
    """A command was carried out. The lists name the mailboxes."""

    message: str
    email_id: int | None = None
    email_ids: list[int] | None = None
    accepted: list[int] | None = None
    skipped: list[int] | None = None
    cancelled: list[int] | None = None
    refused: list[int] | None = None
    address: str | None = None
    until: str | None = None


class Warned(Success, tag="warning", tag_field="type", omit_defaults=True):
    """A command had nothing to do."""


class ImportResult(msgspec.Struct, tag="import_result", tag_field="type"):
    """The result of an import, with an entry for each line that failed."""

    total: int
    success: int
    failed: int
    failed_details: list[LineFailure]


class Exported(msgspec.Struct, tag="export", tag_field="type"):
    """A page of exported mailboxes as text. The first page of CSV begins with the names of the columns."""

    data: str
    count: int
    next: int | None


class EmailsList(msgspec.Struct, tag="emails_list", tag_field="type"):
    """All rows as after event `seq` of `stream`. Events from `seq` + 1 on apply on top."""

    data: msgspec.Raw
    stream: str
    seq: int


class EmailsPage(msgspec.Struct, tag="emails_list", tag_field="type"):
    """A page of rows as after event `seq`; the next has `before` = `next`. `total` counts all mailboxes."""

    data: list[Row]
    stream: str
    seq: int
    total: int
    next: str | None


class Record(msgspec.Struct, gc=False):
    """A mail in a list."""

    mail_id: int
    email_id: int
    subject: str
    sender: str
    received_time: str
    folder: str
    has_attachments: bool
    size: int
    code: str | UnsetType = UNSET
    code_confidence: float | UnsetType = UNSET
    unread: bool | UnsetType = UNSET
    """It is unread on the server. Absent: it is not, or nobody knows."""

    @classmethod
    def of(cls, record: MailRecord, *, unread: bool = False) -> Self:
        """A stored record as the client sees it."""
        fields = {**msgspec.structs.asdict(record), "unread": unread or UNSET}
        return cls(**{name: fields[name] for name in Record.__struct_fields__})


class MailRecords(msgspec.Struct, tag="mail_records", tag_field="type"):
    """A page of a mailbox's mails, newest first. The next page has `before` = `next`."""

    email_id: int
    data: list[Record]
    next: str | None


class FoundRecord(Record, gc=False, kw_only=True):
    """A mail that a search found, with the address of its mailbox."""

    email: str


class MailsFound(msgspec.Struct, tag="mails_found", tag_field="type"):
    """A page of what a search found. `behind`: events of the log that are not in the index yet."""

    data: list[FoundRecord]
    next: str | None
    behind: int


class _Content(msgspec.Struct):
    text: msgspec.Raw
    html: msgspec.Raw
    attachments: msgspec.Raw
    truncated: msgspec.Raw
    to: str = ""
    cc: str = ""


class Mail(Record, tag="mail", tag_field="type", kw_only=True):
    """One mail with its content."""

    text: msgspec.Raw
    html: msgspec.Raw
    attachments: msgspec.Raw
    truncated: msgspec.Raw
    recipients: str

    @classmethod
    def with_content(cls, record: MailRecord, content: bytes) -> Self:
        """A stored record with its stored content, whose fields stay raw JSON."""
        found = msgspec.json.decode(content, type=_Content)
        fields: dict[str, Any] = msgspec.structs.asdict(Record.of(record))
        fields |= {name: getattr(found, name) for name in ("text", "html", "attachments", "truncated")}
        return cls(**fields, recipients=", ".join(filter(None, (found.to, found.cc))))


type MailReply = Success | Warned | ImportResult | Refusal


def encode(reply: MailReply) -> bytes:
    """The reply's JSON object, with its `type`."""
    if isinstance(reply, Refusal):
        return error_body(reply)
    return msgspec.json.encode(reply)
