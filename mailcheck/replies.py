"""What a command or query of the domain answers: JSON objects of PROTOCOL 6, and refusals. Pure."""

from collections.abc import Iterator
from typing import Any, Protocol, Self

import msgspec

from huahuo.mailcheck.row import Row
from huahuo.mailcheck.tables.records import MailRecord


class Parted(Protocol):
    """A JSON object that can be made in parts; as `huahuo.transport.protocol.parts.Parted`."""

    def pieces(self) -> Iterator[bytes]:
        """Its text in pieces."""
        ...

    def part(self, start: int, bytes_max: int) -> tuple[bytes, int | None]:
        """An object of about that size, and where the next one begins."""
        ...


class MailReply(msgspec.Struct, frozen=True):
    """The answer to a command or query.

    `body` is the JSON object with its `type`, without `id` and `at`. `recorded`: it is kept in the
    log under the command's key; `duplicate`: it is the first answer of a repeated command. With
    `parted`, that is the answer, and `body` only says of which type it is.
    """

    body: bytes
    at: tuple[str, int] | None = None
    recorded: bool = False
    duplicate: bool = False
    parted: Parted | None = None


class Refusal(msgspec.Struct, frozen=True):
    """Why a command was not carried out, with a code of PROTOCOL 6."""

    code: str
    message: str
    details: str = ""


class LineFailure(msgspec.Struct, frozen=True, gc=False):
    """An import line that was not taken, by its number; the line itself is never repeated."""

    line: int
    reason: str


class _Error(msgspec.Struct, tag="error", tag_field="type", omit_defaults=True):
    code: str
    message: str
    details: str = ""


class Success(msgspec.Struct, tag="success", tag_field="type", omit_defaults=True):
    """A command was carried out; the lists say for which mailboxes."""

    message: str
    email_id: int | None = None
    email_ids: list[int] | None = None
    accepted: list[int] | None = None
    skipped: list[int] | None = None
    cancelled: list[int] | None = None


class Warned(Success, tag="warning", tag_field="type", omit_defaults=True):
    """A command had nothing to do."""


class ImportResult(msgspec.Struct, tag="import_result", tag_field="type"):
    """How an import went, line by line for those that failed."""

    total: int
    success: int
    failed: int
    failed_details: list[LineFailure]


class EmailsList(msgspec.Struct, tag="emails_list", tag_field="type"):
    """All rows at one moment: later events of `stream`, from `seq` + 1 on, apply on top."""

    data: msgspec.Raw
    stream: str
    seq: int


class EmailsPage(msgspec.Struct, tag="emails_list", tag_field="type"):
    """Some of the rows, as after event `seq`; `next` goes back in as `before`. `total`: of all mailboxes."""

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
        """What a client sees of a stored record."""
        return msgspec.convert(record, cls, from_attributes=True)


class MailRecords(msgspec.Struct, tag="mail_records", tag_field="type"):
    """A page of a mailbox's mails, newest first; `next` goes back in as `before`."""

    email_id: int
    data: list[Record]
    next: str | None


class _Content(msgspec.Struct):
    text: msgspec.Raw
    html: msgspec.Raw
    attachments: msgspec.Raw
    truncated: msgspec.Raw


class Mail(msgspec.Struct, tag="mail", tag_field="type"):
    """One mail with its content."""

    mail_id: int
    email_id: int
    subject: str
    sender: str
    received_time: str
    folder: str
    has_attachments: bool
    size: int
    text: msgspec.Raw
    html: msgspec.Raw
    attachments: msgspec.Raw
    truncated: msgspec.Raw

    @classmethod
    def of(cls, record: MailRecord, content: bytes) -> Self:
        """A stored record with the stored content, which is not decoded again."""
        found = msgspec.json.decode(content, type=_Content)
        fields: dict[str, Any] = msgspec.structs.asdict(Record.of(record))
        return cls(**fields, **msgspec.structs.asdict(found))


type Reply = Success | Warned | ImportResult | Refusal


def encode(reply: Reply) -> bytes:
    """The reply's JSON object, with its `type`."""
    if isinstance(reply, Refusal):
        return msgspec.json.encode(_Error(reply.code, reply.message, reply.details))
    return msgspec.json.encode(reply)
