"""The projections of the domain: names, keys and values of their rows. Pure. The log can rebuild them.

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

Numbers in keys are 8 bytes, big-endian, so that keys sort like their numbers.
"""

import re
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from huahuo.actors.plugins.principal import UserId
from huahuo.eventstore.model import RowPut
from huahuo.mailcheck.fetched import FetchedMail

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
