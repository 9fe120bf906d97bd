"""The domain's events, streams and effects, how events are stored, and rules of every log. Pure.

Public events are on `user/<id>`, with the bytes that go over the wire (PROTOCOL 4.1). Internal facts are
on `mailbox/<id>` and `roster/<id>`. Event names are strings of our own, not Python import paths. A body
holds no password, token or key, only the name under which a secret is sealed. If old code could not read a
new body, or new code an old one, the type's version rises. One function in `UPCASTS` then converts bodies
of the version before. Each effect also stands in the commit of its decision, as a row or an end; the
effect tells the runners at once. `ChecksEndOnce` and `MailsToldOnce` are rules that a log alone can show,
for `huahuo doctor --check`.

What a check learns of a mail server: mails, the cursor up to which all are known, the way in.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from huahuo.actors.plugins.calls import UserId, user_id_of
from huahuo.eventstore.model import NewEvent, StoredEvent, Tombstone
from huahuo.eventstore.verdict import Ends, Tally, Verdict

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


class Claim(msgspec.Struct, frozen=True, gc=False):
    """A mailbox that somebody has for a while, under this address (perhaps one of its aliases).

    Nothing ends it at `until`: who reads it compares the time.
    """

    address: str
    since: str
    until: str


def user_stream(user_id: UserId) -> str:
    """The public stream of a user."""
    return f"user/{user_id}"


def mailbox_stream(email_id: int) -> str:
    """The internal stream of a mailbox: also the mailbox's name as an entity and as an owner of secrets."""
    return f"mailbox/{email_id}"


def roster_stream(user_id: UserId) -> str:
    """The internal stream of a user's roster, which only the roster writes."""
    return f"roster/{user_id}"


def id_of(stream: str) -> int:
    """The number in a stream's name: 17 for `mailbox/17`. Raises ValueError if there is none."""
    return int(stream.partition("/")[2])


def user_of(stream: str) -> UserId:
    """The user of `user/42` or `roster/42`. Raises ValueError if it is no user's stream."""
    user_id = user_id_of(stream.partition("/")[2])
    if user_id is None:
        raise ValueError(f"{stream} is no stream of a user")
    return user_id


class StartCheck(msgspec.Struct, frozen=True, gc=False):
    """Effect: run this check as soon as its host has a free place. `login`, `trace`: see `OpenCheck`."""

    email_id: int
    check_id: int
    host: str
    user_id: UserId
    login: bool = False
    trace: str = ""


class StopCheck(msgspec.Struct, frozen=True, gc=False):
    """Effect: the check has ended in the log, so the task that runs it must stop."""

    check_id: int


class Watch(msgspec.Struct, frozen=True, gc=False):
    """Effect: watch this mailbox, or look at it anew after a change of its settings or secrets."""

    email_id: int
    host: str


class Unwatch(msgspec.Struct, frozen=True, gc=False):
    """Effect: do not watch this mailbox any more."""

    email_id: int


class LookAgain(msgspec.Struct, frozen=True, gc=False):
    """Effect: a check succeeded after a failure, so the watcher of the mailbox may succeed too."""

    email_id: int


class ReadBodies(msgspec.Struct, frozen=True, gc=False):
    """Effect: mails of this mailbox were told by their headers, so read the rest of them."""

    email_id: int


class Purge(msgspec.Struct, frozen=True, gc=False):
    """Effect: remove the rows and blobs of a deleted mailbox."""

    email_id: int


type Effect = StartCheck | StopCheck | Watch | Unwatch | LookAgain | ReadBodies | Purge

STATUSES_TERMINAL: Final = frozenset({"ok", "error", "need_reauth", "cancelled"})
STATUSES_BUSY: Final = frozenset({"queued", "processing"})
PROGRESS_MAX: Final = 100


class Body(msgspec.Struct, frozen=True, gc=False, tag_field="type", kw_only=True):
    """The JSON object of an event. `type` comes first, and `timestamp` is one of the fields."""

    timestamp: str


class Public(Body, frozen=True, gc=False, kw_only=True):
    """An event on the user's stream."""


class Fact(Body, frozen=True, gc=False, kw_only=True):
    """An event on the stream of a mailbox or a roster."""


class EmailAdded(Public, tag="email_added", frozen=True, gc=False, kw_only=True):
    """A user has a new mailbox."""

    email_id: int
    email: str
    mail_type: str
    server: str
    port: int
    use_ssl: bool


class EmailUpdated(Public, tag="email_updated", frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """The public fields that changed. If only a secret changed, there are none."""

    email_id: int
    mail_type: str | UnsetType = UNSET
    server: str | UnsetType = UNSET
    port: int | UnsetType = UNSET
    use_ssl: bool | UnsetType = UNSET
    watched: bool | UnsetType = UNSET
    tags: tuple[str, ...] | UnsetType = UNSET
    note: str | UnsetType = UNSET
    group: str | UnsetType = UNSET
    folders: tuple[str, ...] | UnsetType | None = UNSET
    claim: Claim | UnsetType | None = UNSET


class EmailDeleted(Public, tag="email_deleted", frozen=True, gc=False, kw_only=True):
    """A mailbox was deleted with everything that was stored about it."""

    email_id: int


class EmailStatusUpdate(
    Public, tag="email_status_update", frozen=True, gc=False, kw_only=True, omit_defaults=True
):
    """A check's new state: `queued`, `processing` or a terminal status.

    After a failure: its class (docs/mail.md), and what to do next. `check_id` is 0 where no check says it but
    the watcher of the mailbox: it failed, or works again.
    """

    email_id: int
    status: str
    message: str
    check_id: int
    error_class: str = ""
    advice: str = ""


class CheckProgress(Public, tag="check_progress", frozen=True, gc=False, kw_only=True):
    """How far a check is, 0 to 100. Within one check it never decreases."""

    email_id: int
    progress: int
    message: str
    check_id: int


class MailReceived(Public, tag="mail_received", frozen=True, gc=False, kw_only=True):
    """A check or a watcher found a new mail. With the verification code in it, if one was found."""

    email_id: int
    mail_id: int
    subject: str
    sender: str
    received_time: str
    folder: str
    has_attachments: bool
    code: str | UnsetType = UNSET
    code_confidence: float | UnsetType = UNSET


class MailboxAdded(Fact, tag="mailbox_added", frozen=True, gc=False, kw_only=True):
    """The first fact of a mailbox's own stream. `secrets` are the names of the secrets sealed with it."""

    user_id: UserId
    email: str
    mail_type: str
    server: str
    port: int
    use_ssl: bool
    secrets: tuple[str, ...] = ()


class MailboxUpdated(Fact, tag="mailbox_updated", frozen=True, gc=False, kw_only=True):
    """The mailbox's new server and login settings. Another server or type invalidates the cursors."""

    mail_type: str
    server: str
    port: int
    use_ssl: bool


class FoldersChosen(Fact, tag="folders_chosen", frozen=True, gc=False, kw_only=True):
    """Which folders of the mailbox are read besides INBOX. None: as the service says."""

    folders: tuple[str, ...] | None


class SecretStored(Fact, tag="secret_stored", frozen=True, gc=False, kw_only=True):
    """A new secret was sealed under this name."""

    name: str


class GrantKept(Fact, tag="grant_kept", frozen=True, gc=False, kw_only=True):
    """How the mailbox's grant was accepted. `rotated`: the next refresh token was sealed with this event."""

    rotated: bool
    graph: bool
    token_url: str
    scope: str


class GrantClaimed(Fact, tag="grant_claimed", frozen=True, gc=False, kw_only=True):
    """The incarnation `by` asks for a token by the mailbox's grant. Empty: it is done.

    Only where several nodes share the log.
    """

    by: str


class CheckRequested(Fact, tag="check_requested", frozen=True, gc=False, kw_only=True):
    """A check was queued."""

    check_id: int


class CheckStarted(Fact, tag="check_started", frozen=True, gc=False, kw_only=True):
    """A queued check began, or another node goes on with it.

    `implicit`: the report of an embedding application opened it. `by`: the incarnation that runs it, where
    several nodes share the log.
    """

    check_id: int
    implicit: bool = False
    by: str | UnsetType = UNSET


class CheckProgressed(Fact, tag="check_progressed", frozen=True, gc=False, kw_only=True):
    """The lower bound of a check's later progress, so that progress does not decrease after a restart."""

    check_id: int
    progress: int


class FoundMail(msgspec.Struct, frozen=True, gc=False):
    """What the log stores about a mail besides its public event: UID, size and content blob."""

    mail_id: int
    uid: int
    size: int
    blob: str
    remote_id: str | UnsetType = UNSET


class KeptMail(msgspec.Struct, frozen=True, gc=False):
    """A mail whose content was read later. `attached`: its headers had looked as if it had attachments."""

    mail_id: int
    blob: str
    attached: bool


class ContentsKept(Fact, tag="contents_kept", frozen=True, gc=False, kw_only=True):
    """The contents of these mails were read, after their headers."""

    mails: tuple[KeptMail, ...]


class UnreadThere(Fact, tag="unread_there", frozen=True, gc=False, kw_only=True):
    """Which of a folder's newest mails are unread on the server, as a set of UIDs (`1:3,7`)."""

    folder: str
    uidvalidity: int
    uids: str


class CursorMoved(Fact, tag="cursor_moved", frozen=True, gc=False, kw_only=True):
    """All mails of a folder up to `uid` are known. `mails` are the new ones among them.

    `check_id` is 0 where the watcher of the mailbox found them. Mails up to `rest` are not known yet. `same`:
    ids and UIDs of mails that were known in other places.
    """

    check_id: int
    folder: str
    uidvalidity: int
    uid: int
    mails: tuple[FoundMail, ...] = ()
    link: str | UnsetType = UNSET
    rest: int | UnsetType = UNSET
    same: tuple[tuple[int, int], ...] | UnsetType = UNSET


class UidvalidityChanged(Fact, tag="uidvalidity_changed", frozen=True, gc=False, kw_only=True):
    """The server gave a folder's mails new UIDs, so its cursor starts again."""

    folder: str
    before: int
    after: int


class CheckEnded(Fact, tag="check_ended", frozen=True, gc=False, kw_only=True):
    """A check ended. This happens once for each check."""

    check_id: int
    status: str


class WatchTold(Fact, tag="watch_told", frozen=True, gc=False, kw_only=True):
    """The user was told that the watcher of the mailbox failed, or that it works again."""

    status: str


class MailboxDeleted(Fact, tag="mailbox_deleted", frozen=True, gc=False, kw_only=True):
    """The last fact of a mailbox: no event about it may follow."""


class GroupProxySet(Fact, tag="group_proxy_set", frozen=True, gc=False, kw_only=True):
    """A group has a proxy, which was sealed with this event, or (`on` false) none any more."""

    group: str
    on: bool


class RosterChanged(Fact, tag="roster_changed", frozen=True, gc=False, kw_only=True):
    """A roster added, changed or deleted mailboxes. What exactly is on `user/<id>`, in the same append."""


PUBLIC: Final[tuple[type[Body], ...]] = tuple(Public.__subclasses__())
INTERNAL: Final[tuple[type[Body], ...]] = tuple(Fact.__subclasses__())


def type_name(body: type[Body]) -> str:
    """The stored name of a body's type."""
    return str(body.__struct_config__.tag)


PUBLIC_TYPES: Final = frozenset(type_name(body) for body in PUBLIC)

_READERS: Final[Mapping[str, Callable[[bytes], Body]]] = {
    type_name(body): msgspec.json.Decoder(body).decode for body in (*PUBLIC, *INTERNAL)
}
"""By type. One lookup, because every fold reads every event through it."""


def public(user_id: UserId, email_id: int, body: Body) -> NewEvent:
    """`body` as an event on the user's stream, about the mailbox `email_id`."""
    return _event(user_stream(user_id), mailbox_stream(email_id), body)


def internal(email_id: int, body: Body) -> NewEvent:
    """`body` as a fact on the mailbox's own stream."""
    stream = mailbox_stream(email_id)
    return _event(stream, stream, body)


def of_roster(user_id: UserId, body: Body) -> NewEvent:
    """`body` as a fact on the roster's own stream, whose head it moves."""
    stream = roster_stream(user_id)
    return _event(stream, stream, body)


def guarding(user_id: UserId, timestamp: str) -> NewEvent:
    """The event by which a change moves the head of the roster's stream."""
    return of_roster(user_id, RosterChanged(timestamp=timestamp))


def _event(stream: str, entity: str, body: Body) -> NewEvent:
    return NewEvent(stream, type_name(type(body)), msgspec.json.encode(body), entity=entity)


def read(event: StoredEvent) -> Body | None:
    """The typed body of an event of this domain, None for any other event.

    Raises:
        ValueError: the stored body does not have the form of its type.
    """
    decode = _READERS.get(event.type)
    return None if decode is None else decode(event.body)


class ChecksEndOnce:
    """I20: the progress of a check never goes back, it ends at most once, and says nothing after its end."""

    def __init__(self) -> None:
        self._tally = Tally("I20")
        self._progress: dict[int, int] = {}
        self._ended: set[int] = set()

    def see(self, one: StoredEvent | Tombstone) -> None:
        """See `Rule`."""
        if isinstance(one, Tombstone) or one.type not in {"check_progress", "email_status_update"}:
            return
        if not one.stream.startswith("user/"):
            return
        told = msgspec.json.decode(one.body, type=dict[str, Any])
        check = told.get("check_id", 0)
        if not check:
            return  # the watcher of a mailbox, or an embedding application
        where = f"check {check} in {one.stream}, seq {one.seq}"
        if check in self._ended:
            self._tally.wrong(f"{where}: {one.type} after its end")
        if one.type == "check_progress":
            if told["progress"] < self._progress.get(check, 0):
                self._tally.wrong(f"{where}: went back from {self._progress[check]} to {told['progress']}")
            self._progress[check] = told["progress"]
        elif told["status"] in STATUSES_TERMINAL:
            self._tally.judged += 1
            self._ended.add(check)

    def verdict(self, ends: Ends) -> Verdict:
        """See `Rule`."""
        del ends
        return self._tally.verdict("checks ended once")


class MailsToldOnce:
    """I22: a mail is told once, and each UID of a folder is taken once while its server is the same."""

    def __init__(self) -> None:
        self._tally = Tally("I22")
        self._told: set[int] = set()
        self._uids: dict[str, set[tuple[str, int, int]]] = {}

    def see(self, one: StoredEvent | Tombstone) -> None:
        """See `Rule`."""
        if isinstance(one, Tombstone):
            return
        if one.type == "mail_received" and one.stream.startswith("user/"):
            self._tell(one)
        elif one.stream.startswith("mailbox/"):
            if one.type == "mailbox_updated":
                self._uids.pop(one.stream, None)  # perhaps another server, with UIDs of its own
            elif one.type == "cursor_moved":
                self._take(one)

    def _tell(self, one: StoredEvent) -> None:
        mail = msgspec.json.decode(one.body, type=dict[str, Any])["mail_id"]
        self._tally.judged += 1
        if mail in self._told:
            self._tally.wrong(f"mail {mail} was told twice, in {one.stream} at seq {one.seq}")
        self._told.add(mail)

    def _take(self, one: StoredEvent) -> None:
        moved = msgspec.json.decode(one.body, type=dict[str, Any])
        taken = self._uids.setdefault(one.stream, set())
        for mail in moved.get("mails", ()):
            if mail.get("remote_id"):
                continue  # a mail of Microsoft Graph, which has no UID
            place = moved["folder"], moved["uidvalidity"], mail["uid"]
            if place in taken:
                self._tally.wrong(f"{one.stream} took UID {mail['uid']} of {moved['folder']} twice")
            taken.add(place)

    def verdict(self, ends: Ends) -> Verdict:
        """See `Rule`."""
        del ends
        return self._tally.verdict("mails told once")
