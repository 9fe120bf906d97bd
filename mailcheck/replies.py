"""Answers to the domain's commands and queries: JSON objects of PROTOCOL 6, and refusals. Pure."""

from collections.abc import Iterator
from typing import Any, Protocol, Self

import msgspec

from huahuo.mailcheck.row import Row
from huahuo.mailcheck.tables.records import MailRecord


class Parted(Protocol):
    """A JSON object that can be encoded in parts. Same form as `huahuo.transport.protocol.parts.Parted`."""

    def pieces(self) -> Iterator[bytes]:
        """The object's text in pieces."""
        ...

    def part(self, start: int, bytes_max: int) -> tuple[bytes, int | None]:
        """An object of about `bytes_max`, and the `start` of the next one, None at the end."""
        ...


class MailReply(msgspec.Struct, frozen=True):
    """The answer to a command or query.

    `body` is the JSON object with its `type`, without `id` and `at`. `recorded`: it is stored in the log
    under the command's key. `duplicate`: the command is a repeat, and this is its first answer. If `parted`
    is set, it is the answer, and `body` only names its type.
    """

    body: bytes
    at: tuple[str, int] | None = None
    recorded: bool = False
    duplicate: bool = False
    parted: Parted | None = None


class Refusal(msgspec.Struct, frozen=True):
    """Why a command was refused, with a code of PROTOCOL 6."""

    code: str
    message: str
    details: str = ""


class LineFailure(msgspec.Struct, frozen=True, gc=False):
    """An import line that was refused, by its number. The text may hold a password and is not repeated."""

    line: int
    reason: str


class _Error(msgspec.Struct, tag="error", tag_field="type", omit_defaults=True):
    code: str
    message: str
    details: str = ""


class Success(msgspec.Struct, tag="success", tag_field="type", omit_defaults=True):
    """A command was carried out. The lists name the mailboxes."""

    message: str
    email_id: int | None = None
    email_ids: list[int] | None = None
    accepted: list[int] | None = None
    skipped: list[int] | None = None
    cancelled: list[int] | None = None


class Warned(Success, tag="warning", tag_field="type", omit_defaults=True):
    """A command had nothing to do."""


class ImportResult(msgspec.Struct, tag="import_result", tag_field="type"):
    """The result of an import, with an entry for each line that failed."""

    total: int
    success: int
    failed: int
    failed_details: list[LineFailure]


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

    @classmethod
    def of(cls, record: MailRecord) -> Self:
        """A stored record as the client sees it."""
        return msgspec.convert(record, cls, from_attributes=True)


class MailRecords(msgspec.Struct, tag="mail_records", tag_field="type"):
    """A page of a mailbox's mails, newest first. The next page has `before` = `next`."""

    email_id: int
    data: list[Record]
    next: str | None


class _Content(msgspec.Struct):
    text: msgspec.Raw
    html: msgspec.Raw
    attachments: msgspec.Raw
    truncated: msgspec.Raw


class Mail(Record, tag="mail", tag_field="type"):
    """One mail with its content."""

    text: msgspec.Raw
    html: msgspec.Raw
    attachments: msgspec.Raw
    truncated: msgspec.Raw

    @classmethod
    def with_content(cls, record: MailRecord, content: bytes) -> Self:
        """A stored record with its stored content, whose fields stay raw JSON."""
        found = msgspec.json.decode(content, type=_Content)
        fields: dict[str, Any] = msgspec.structs.asdict(Record.of(record))
        return cls(**fields, **msgspec.structs.asdict(found))


type Reply = Success | Warned | ImportResult | Refusal


def encode(reply: Reply) -> bytes:
    """The reply's JSON object, with its `type`."""
    if isinstance(reply, Refusal):
        return msgspec.json.encode(_Error(reply.code, reply.message, reply.details))
    return msgspec.json.encode(reply)
