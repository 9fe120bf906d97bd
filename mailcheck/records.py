"""Rows of the domain and the answers made of them (PROTOCOL 6). Pure.

`Row` is one mailbox as a user sees it. The projections' rows can be rebuilt from the log:

| table | part | key | value |
|---|---|---|---|
| `mails` | mailbox id | received_ms, mail id | the mail's record |
| `mail` | "" | mail id | its owner and the key of its record |
| `checks` | "" | mailbox id | the open check, which a restart continues |
| `graph` | mailbox id | digest of Graph's id of a mail | nothing: this mail is known |
| `known` | mailbox id | digest of a Message-ID | the mails that have it, and where they were met |
| `watched` | "" | mailbox id | its host: the mailbox is watched for new mails |
| `unread` | mailbox id | digest of a folder | which of its newest mails are unread on the server |
| `missing` | mailbox id | received_ms, mail id | nothing: only the headers of this mail were read |
| `unread_bodies` | "" | mailbox id | nothing: mails of this mailbox are `missing` |
| `sources` | mailbox id | mail id | the id of the whole mail, which came from a file and has attachments |
| `group_proxies` | user id | digest of a group | the group: its mailboxes use a proxy of its own |
| `purges` | "" | mailbox id | a deleted mailbox whose records and blobs are still to be removed |

Numbers in keys are 8 bytes, big-endian, so that keys sort like their numbers. `entry_of` makes the entry
of a mail in the index: what is dropped there must be what was put, so both come from here, and it is made
of what a mail says only, never of passwords or tokens.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final, Self

import msgspec
import structlog
from msgspec import UNSET, UnsetType

from huahuo.actors.plugins.calls import Refusal, UserId, error_body
from huahuo.eventstore.fulltext.words import Entry, marks_of
from huahuo.eventstore.model import RowPut
from huahuo.mailcheck.events import Claim, FetchedMail
from huahuo.mailcheck.mime.shown import shown_text


class Row(msgspec.Struct, frozen=True, gc=False):
    """One mailbox as PROTOCOL 6 shows it; `last_check_time` moves only after a success.

    A row is immutable and is replaced as a whole, so a copied list of rows is a consistent cut. The fields
    without a value are left out: most mailboxes have no labels, and a list may have 100,000 rows.
    """

    id: int
    user_id: UserId
    email: str
    mail_type: str
    server: str
    port: int
    use_ssl: bool
    created_at: str
    status: str = "idle"
    progress: int = 0
    message: str = ""
    last_check_time: str | None = None
    mail_count: int = 0
    watched: bool = False
    tags: tuple[str, ...] | UnsetType = UNSET
    note: str | UnsetType = UNSET
    group: str | UnsetType = UNSET
    folders: tuple[str, ...] | UnsetType = UNSET
    """Read besides INBOX, where the user has chosen them."""
    error_class: str | UnsetType = UNSET
    """Of the last check, if it failed."""
    claim: Claim | UnsetType = UNSET

    def claimed(self, now: str) -> bool:
        """Whether somebody has it now."""
        return self.claim is not UNSET and self.claim.until > now


MAILS: Final = "mails"
MAIL: Final = "mail"
CHECKS: Final = "checks"
PURGES: Final = "purges"
GRAPH: Final = "graph"
WATCHED: Final = "watched"
KNOWN: Final = "known"
GROUP_PROXIES: Final = "group_proxies"
UNREAD: Final = "unread"
MISSING: Final = "missing"
SOURCES: Final = "sources"
UNREAD_BODIES: Final = "unread_bodies"

SUBJECT_CHARS_MAX: Final = 1_000
SENDER_CHARS_MAX: Final = 500
FOLDER_CHARS_MAX: Final = 500
MESSAGE_CHARS_MAX: Final = 1_000
CODE_CHARS_MAX: Final = 32
_RECIPIENTS_MAX: Final = 10
_RECIPIENT: Final = re.compile(r"[^\s<>()\[\],;:\"@]{1,64}@[\w.-]{1,255}")
_KEY_BYTES = 16
_DAY_MS = 86_400_000
_OLDEST_MS = 631_152_000_000
"""1990-01-01: an older date of a mail comes from a wrong clock."""
_CLOCKS_MS = 2 * _DAY_MS
"""By how much senders' clocks and zones go wrong."""


class MailRecord(msgspec.Struct, frozen=True, gc=False):
    """One mail in its mailbox's list. `blob` is the id of its content, "" while only its headers were read.

    `uid` and `uidvalidity`: where it was met last in `folder`.
    `remote_id`: Graph's id.
    """

    mail_id: int
    email_id: int
    subject: str
    sender: str
    received_time: str
    folder: str
    has_attachments: bool
    size: int
    blob: str
    code: str | UnsetType = UNSET
    code_confidence: float | UnsetType = UNSET
    uid: int = 0
    uidvalidity: int = 0
    remote_id: str | UnsetType = UNSET
    recipients: str | UnsetType = UNSET
    """The addresses of To and Cc in lower case, with blanks between them."""

    def is_to(self, address: str) -> bool:
        """Whether it was sent to this address."""
        return isinstance(self.recipients, str) and address.lower() in self.recipients.split()


class MailPlace(msgspec.Struct, frozen=True, gc=False):
    """The owner of a mail and the key of its record."""

    user_id: UserId
    email_id: int
    received_ms: int


class OpenCheck(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A check that has not ended. `implicit`: an embedding application runs it, not this service.

    `login`: it only signs in. `trace`: the place in a trace of the command that asked for it, "" for none.
    """

    user_id: UserId
    check_id: int
    host: str = ""
    implicit: bool = False
    login: bool = False
    trace: str = ""


def recipients_of(text: str) -> str | UnsetType:
    """The first addresses of To and Cc as a record has them."""
    found = (address.lower() for address in _RECIPIENT.findall(text[: 1 << 14]))
    return " ".join(list(dict.fromkeys(found))[:_RECIPIENTS_MAX]) or UNSET


def received_of(key: bytes) -> int:
    """When the mail was received, from the key of its record."""
    return number_of(key[:8])


def remote_key(remote_id: str) -> bytes:
    """The key of a mail's id at Graph, which is a text of up to some hundred characters."""
    return blake2b(remote_id.encode(), digest_size=_KEY_BYTES).digest()


def remote_put(email_id: int, remote_id: str) -> RowPut:
    """The row by which a mail of Graph is known."""
    return RowPut(GRAPH, str(email_id), remote_key(remote_id), b"")


class Unread(msgspec.Struct, frozen=True, gc=False):
    """Which of a folder's newest mails are unread on the server, as a set of UIDs."""

    folder: str
    uidvalidity: int
    uids: str

    def numbers(self) -> frozenset[int]:
        """The UIDs."""
        found: set[int] = set()
        for run in filter(None, self.uids.split(",")):
            first, _, last = run.partition(":")
            found.update(range(int(first), int(last or first) + 1))
        return frozenset(found)


def unread_put(email_id: int, folder: str, uidvalidity: int, uids: str) -> RowPut:
    """The row of a folder's unread mails."""
    value = msgspec.json.encode(Unread(folder, uidvalidity, uids))
    return RowPut(UNREAD, str(email_id), group_key(folder), value)


def group_key(group: str) -> bytes:
    """The key of a group, which is a text of the user's."""
    return blake2b(group.encode("utf-8", "replace"), digest_size=_KEY_BYTES).digest()


def group_secret(group: str) -> str:
    """The name under which a group's proxy is sealed, for the owner `roster/<id>`."""
    return f"proxy/{group_key(group).hex()}"


def number_key(number: int) -> bytes:
    """A key that sorts like the number, 0 <= number < 2^63."""
    return number.to_bytes(8, "big")


email_key = mail_key = number_key


def number_of(key: bytes) -> int:
    """The number of which `number_key` made this key."""
    return int.from_bytes(key, "big")


def record_key(received_ms: int, mail_id: int) -> bytes:
    """The key of a mail's record. Descending order is newest first."""
    return number_key(received_ms) + number_key(mail_id)


def page_token(key: bytes) -> str:
    """A record's key as the `next` of a page."""
    return key.hex()


def page_key(token: str) -> bytes | None:
    """The key that a client sent in `before`, None if it is not one of ours."""
    try:
        key = bytes.fromhex(token)
    except ValueError:
        return None
    return key if len(key) == _KEY_BYTES else None


def check_put(
    email_id: int,
    user_id: UserId,
    check_id: int,
    *,
    host: str = "",
    implicit: bool = False,
    login: bool = False,
    trace: str = "",
) -> RowPut:
    """The row of an open check."""
    value = OpenCheck(user_id, check_id, host, implicit, login, trace)
    return RowPut(CHECKS, "", email_key(email_id), msgspec.json.encode(value))


def watched_put(email_id: int, host: str) -> RowPut:
    """The row of a watched mailbox."""
    return RowPut(WATCHED, "", email_key(email_id), host.encode())


def mail_rows(record: MailRecord, user_id: UserId, received: int) -> tuple[RowPut, RowPut]:
    """A mail's record in its mailbox's list, and the entry that finds it by its id."""
    place = MailPlace(user_id, record.email_id, received)
    key = record_key(received, record.mail_id)
    return (
        RowPut(MAILS, str(record.email_id), key, msgspec.json.encode(record)),
        RowPut(MAIL, "", mail_key(record.mail_id), msgspec.json.encode(place)),
    )


def received_ms(mail: FetchedMail, now_ms: int) -> int:
    """When the server took a mail. If its own date is far from that, the mailbox was moved: its own date."""
    server_ms, own_ms = mail.internal_date_ms, sent_ms(mail, now_ms)
    if server_ms is not None and abs(server_ms - own_ms) <= _CLOCKS_MS and _plausible(server_ms, now_ms):
        return server_ms
    return own_ms


def sent_ms(mail: FetchedMail, now_ms: int) -> int:
    """When a mail was sent: its own date if that is plausible, else the server's, else now."""
    for moment in (mail.date_ms, mail.internal_date_ms):
        if moment is not None and _plausible(moment, now_ms):
            return moment
    return now_ms


def _plausible(moment_ms: int, now_ms: int) -> bool:
    return _OLDEST_MS <= moment_ms <= now_ms + _DAY_MS


def rfc3339(ms: int) -> str:
    """A time in the form of events: UTC, milliseconds, `Z`."""
    moment = datetime.fromtimestamp(ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03}Z"


def clean(text: str, chars_max: int) -> str:
    """`text` in a form that JSON can hold: no lone surrogate, no NUL, at most `chars_max` characters."""
    return text[:chars_max].encode("utf-8", "replace").decode("utf-8").replace("\0", "")


INDEX_NAME: Final = "mail-search"
INDEX_FILE: Final = "mail-search.db"

FIELDS: Final = ("subject", "sender", "recipients")
"""Fields of a mail that can be asked for alone. The text is the fourth."""
MARKS: Final[Mapping[str, str]] = {
    **marks_of(FIELDS),
    "from": marks_of(FIELDS)["sender"],
    "to": marks_of(FIELDS)["recipients"],
}
WITH_CODE: Final = "c"
WITH_ATTACHMENTS: Final = "a"
WITHOUT_CONTENT: Final = 0
"""The variant of a mail whose text was not there when it was put."""
_VARIANT_DIGITS: Final = 12
_DIGEST_BYTES: Final = 12


_log = structlog.get_logger(__name__)


class _IndexedContent(msgspec.Struct):
    text: str = ""
    html: str = ""
    to: str = ""
    cc: str = ""


_decode_indexed: Final = msgspec.json.Decoder(_IndexedContent).decode


def owner_key(user_id: UserId) -> str:
    """The key of a user's mails. Letters and digits only, whatever the user's id is."""
    if isinstance(user_id, int):
        return f"u{user_id}" if user_id >= 0 else f"un{-user_id}"
    return f"t{blake2b(user_id.encode(), digest_size=_DIGEST_BYTES).hexdigest()}"


def mailbox_key(email_id: int) -> str:
    """The key of a mailbox's mails."""
    return f"m{email_id}"


def variant_of(record: MailRecord) -> int:
    """The variant of a mail with the content that its record names: another content, another variant."""
    if not record.blob:
        return WITHOUT_CONTENT
    return 1 + int(record.blob[:_VARIANT_DIGITS], 16)


def entry_of(record: MailRecord, user_id: UserId, content: bytes | None) -> Entry:
    """A mail with its record and content. None: the content is not there (yet, or any more)."""
    found = _IndexedContent() if content is None else _decode_indexed(content)
    keys = [owner_key(user_id), mailbox_key(record.email_id)]
    if record.code:
        keys.append(WITH_CODE)
    if record.has_attachments:
        keys.append(WITH_ATTACHMENTS)
    return Entry(
        item=record.mail_id,
        part=record.email_id,
        at_ms=ms_of(record.received_time),
        keys=tuple(keys),
        texts={
            "subject": record.subject,
            "sender": record.sender,
            "recipients": f"{found.to} {found.cc}",
            "text": found.text if found.text.strip() else _text_of(found.html, record.mail_id),
        },
        variant=WITHOUT_CONTENT if content is None else variant_of(record),
    )


def _text_of(markup: str, mail_id: int) -> str:
    """The text of HTML, "" if it cannot be read: the mail is found by its subject.

    The same HTML gives the same each time, so a mail is dropped as it was put.
    """
    try:
        return shown_text(markup)
    except MemoryError:  # it says nothing about the mail
        raise
    except Exception:  # noqa: BLE001  the markup is anybody's: one mail must not stop the index
        _log.exception("mail_text_unreadable", mail_id=mail_id)
        return ""


def ms_of(time: str) -> int:
    """Milliseconds since 1970 of a time as events have it. Raises ValueError: it is none."""
    moment = datetime.fromisoformat(time)
    return round(moment.timestamp() * 1000)


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
