"""A mailbox's decisions: which events a check may write, when, and how it ends. Pure.

    (none) ──check_requested──▶ queued ──Begin──▶ processing ──Finish──▶ (none)
       └──────────first report──(implicit)────────────▲ │▲
                                                       └─┘ Progress, MailsFound, reports
    the roster's cancel and delete end a check from any state

Each transition is one append that expects the mailbox's stream at the seq of the state. So no event about
a check follows its end, and it ends once: a second writer conflicts, catches up, and finds no open check
with that id. A `Begin` of a check that runs already (after a restart) writes no event and answers with the
cursors. Where several nodes share the log, a living node keeps its check, and that of another is taken
over by name.

Which mails are one mail: a UID names a mail in one folder under one UIDVALIDITY: a place. Two UIDs of one
place are two mails, however equal they are. If a mail of the same Message-ID was known in other places only,
it was moved or copied, or the server gave its folder new UIDs: it is that mail. Of several equal ones each is
met once per place.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from types import MappingProxyType
from typing import Final, Literal

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from huahuo.actors.entities.decider import Context, Decision
from huahuo.actors.plugins.calls import UserId
from huahuo.eventstore.blobs import blob_id
from huahuo.eventstore.model import RowDrop, RowPut, Secret, SecretPut
from huahuo.mailcheck import events, records, zh
from huahuo.mailcheck.mailbox.state import Check, Mailbox, MailboxFold, unread_digest
from huahuo.mailcheck.records import received_ms
from huahuo.mailcheck.writing import Writing

EQUAL_MAX: Final = 100
"""Mails with one Message-ID that are kept apart. More of them are told whenever their folder has new UIDs."""
PLACES_MAX: Final = 16
_DIGEST_BYTES: Final = 16


class Known(msgspec.Struct, frozen=True, array_like=True):
    """A known mail, and the places where it was met."""

    mail_id: int
    received_ms: int
    places: tuple[str, ...]

    def met_in(self, place: str) -> "Known":
        """The same mail, met in one more place. The oldest places are forgotten first."""
        return Known(self.mail_id, self.received_ms, (*self.places, place)[-PLACES_MAX:])


class Equals(msgspec.Struct, frozen=True):
    """The known mails that are equal to one that was fetched, with the records that are at hand."""

    mails: tuple[Known, ...] = ()
    at_hand: tuple[records.MailRecord, ...] = ()

    def record(self, mail_id: int) -> records.MailRecord | None:
        """The record of one of them."""
        return next((record for record in self.at_hand if record.mail_id == mail_id), None)


def place_of(server: str, folder: str, uidvalidity: int) -> str:
    """The name of a place."""
    return f"{server.lower()}/{uidvalidity}/{folder}"


def digest_of(mail: events.FetchedMail) -> bytes:
    """What equal mails have in common: the Message-ID, or without one what a reader sees first."""
    said = mail.message_id
    if not said:
        said = f"\0{mail.date_ms}\0{mail.size}\0{mail.sender}\0{mail.subject}"
    return blake2b(said.encode("utf-8", "replace"), digest_size=_DIGEST_BYTES).digest()


def encoded(mails: list[Known]) -> bytes:
    """The row of the table `known`."""
    return msgspec.json.encode(mails[-EQUAL_MAX:])


def decoded(row: bytes) -> tuple[Known, ...]:
    """See `encoded`."""
    return msgspec.json.decode(row, type=tuple[Known, ...])


_NONE: Mapping[bytes, Equals] = MappingProxyType({})

type TerminalStatus = Literal["ok", "error", "need_reauth", "cancelled"]
type ReportedStatus = Literal["queued", "processing", "ok", "error", "need_reauth", "cancelled"]


class Begin(msgspec.Struct, frozen=True, gc=False):
    """A check starts, or continues after a restart.

    `by`: the incarnation that runs it. What one of `living` runs is left to it.
    """

    check_id: int
    by: str = ""
    living: frozenset[str] = frozenset()


class Progress(msgspec.Struct, frozen=True, gc=False):
    """The progress of a running check."""

    check_id: int
    percent: int
    message: str


class MailsFound(msgspec.Struct, frozen=True):
    """A running check fetched these mails. With them all mails up to `cursor` are known.

    `equals`: the known mails that equal one of them, by digest.
    """

    check_id: int
    batch: tuple[events.FetchedMail, ...]
    cursor: events.UidCursor
    equals: Mapping[bytes, Equals] = _NONE


class Finish(msgspec.Struct, frozen=True, gc=False):
    """A running check is over. For `ok`, an empty message is replaced by the number of mails found.

    `cursor`: how far the folder was read, which may be beyond the last mail that was reported.
    """

    check_id: int
    status: TerminalStatus
    message: str = ""
    cursor: events.UidCursor | None = None
    error_class: str = ""
    advice: str = ""


class KeepGrant(msgspec.Struct, frozen=True, gc=False):
    """The grant of this generation was accepted in this way, and perhaps replaced by the next one."""

    generation: int
    way: events.Way
    refresh_token: Secret | None = None


class ClaimGrant(msgspec.Struct, frozen=True, gc=False):
    """The incarnation `by` will ask for a token by the grant. What one of `living` claimed is left to it."""

    by: str
    living: frozenset[str]


class LeaveGrant(msgspec.Struct, frozen=True, gc=False):
    """The incarnation `by` does not ask by the grant any more."""

    by: str


class ReportStatus(msgspec.Struct, frozen=True, gc=False):
    """An embedding application reports the status of its own check of the mailbox."""

    status: ReportedStatus
    message: str


class ReportProgress(msgspec.Struct, frozen=True, gc=False):
    """An embedding application reports the progress of its own check."""

    percent: int
    message: str


class MailsSeen(msgspec.Struct, frozen=True):
    """The watcher of the mailbox fetched these mails. See `MailsFound`."""

    batch: tuple[events.FetchedMail, ...]
    cursor: events.UidCursor
    equals: Mapping[bytes, Equals] = _NONE


class SeeUnread(msgspec.Struct, frozen=True, gc=False):
    """A reading saw which of a folder's newest mails are unread there, as a set of UIDs."""

    folder: str
    uidvalidity: int
    uids: str


class WatchState(msgspec.Struct, frozen=True, gc=False):
    """How the watcher of the mailbox fares. The user is told of the first failure and of the recovery."""

    status: Literal["ok", "error", "need_reauth"]
    message: str = ""
    error_class: str = ""
    advice: str = ""


class Content(msgspec.Struct, frozen=True):
    """The content of a mail of which only headers were read. `record` is the one that is stored."""

    record: records.MailRecord
    received_ms: int
    content: bytes
    has_attachments: bool


class KeepContents(msgspec.Struct, frozen=True):
    """The contents of mails were read, after their headers."""

    contents: tuple[Content, ...]


type MailboxCommand = (
    Begin
    | Progress
    | MailsFound
    | Finish
    | KeepGrant
    | ClaimGrant
    | LeaveGrant
    | ReportStatus
    | ReportProgress
    | MailsSeen
    | WatchState
    | KeepContents
    | SeeUnread
)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Reply to `Begin`: what to check, and from which cursors."""

    email: str
    mail_type: str
    server: str
    port: int
    use_ssl: bool
    cursors: Mapping[str, events.UidCursor]
    user_id: UserId = 0
    folders: tuple[str, ...] | None = None


class Done(msgspec.Struct, frozen=True, gc=False):
    """Reply: the events were written, or it was already so."""


class CheckOver(msgspec.Struct, frozen=True, gc=False):
    """Reply: that check is not open. No event was written, and the task that runs the check must stop."""


class CheckHeld(msgspec.Struct, frozen=True, gc=False):
    """Reply to `Begin`: another node, of the incarnation `by`, runs the check. No event was written."""

    by: str


class GrantHeld(msgspec.Struct, frozen=True, gc=False):
    """Reply to `ClaimGrant`: another living node asks by the grant now. No event was written."""

    by: str


class GrantReplaced(msgspec.Struct, frozen=True, gc=False):
    """Reply: the mailbox has another grant by now. No event was written."""


class NoMailbox(msgspec.Struct, frozen=True, gc=False):
    """Reply: the mailbox never existed or is deleted."""


type MailboxReply = Plan | Done | CheckOver | CheckHeld | GrantHeld | GrantReplaced | NoMailbox


_RUNNING_MAX: Final = events.PROGRESS_MAX - 1
"""The highest progress of a running check, because 100 is its end."""


class MailboxDecider(MailboxFold):
    """See the module's docstring."""

    guarded: Final = True

    def decide(
        self, state: Mailbox, command: MailboxCommand, context: Context
    ) -> Decision[MailboxReply, events.Effect]:
        """See `Decider`."""
        if not state.exists:
            return Decision(reply=NoMailbox())
        return _Deciding(state, context).decision(command)


def plan_of(state: Mailbox) -> Plan:
    """What to check in this mailbox, and from which cursors."""
    return Plan(
        email=state.email,
        mail_type=state.mail_type,
        server=state.server,
        port=state.port,
        use_ssl=state.use_ssl,
        cursors=dict(state.seen),
        user_id=state.user_id,
        folders=state.folders,
    )


class _Deciding(Writing):
    """One decision: what it answers, and what it writes. It never changes the state."""

    def __init__(self, state: Mailbox, context: Context) -> None:
        super().__init__(state.user_id, context)
        self.state = state
        self.id = state.email_id
        self._blobs: list[bytes] = []
        self._floor = 0 if state.check is None else state.check.progress

    def decision(self, command: MailboxCommand) -> Decision[MailboxReply, events.Effect]:
        """Everything, as one append."""
        reply = self._reply(command)
        owner = events.user_stream(self.user_id) if self._blobs else ""
        return self.gathered(reply, blobs=tuple(self._blobs), owner=owner)

    def _reply(self, command: MailboxCommand) -> MailboxReply:
        match command:
            case ReportStatus() | ReportProgress():
                self._report(command)
            case KeepGrant():
                return self._keep(command)
            case ClaimGrant() | LeaveGrant():
                return self._claim(command)
            case MailsSeen():
                self._found(0, command.batch, command.cursor, command.equals)
            case KeepContents():
                self._contents(command.contents)
            case SeeUnread():
                self._unread(command)
            case WatchState():
                self._watcher_fares(command)
            case Begin() | Progress() | MailsFound() | Finish():
                return self._of_check(command)
        return Done()

    def _of_check(self, command: Begin | Progress | MailsFound | Finish) -> MailboxReply:
        state, check = self.state, self.state.check
        if check is None or check.check_id != command.check_id:
            return CheckOver()
        match command:
            case Begin(_, by, living):
                if not check.started:
                    self._begin(check, zh.CONNECTING, by=by)
                    self._progress(check, 0, zh.CONNECTING)
                elif check.by != by:
                    if check.by in living:
                        return CheckHeld(check.by)
                    self._started(check, by)
                return plan_of(state)
            case Progress():
                self._progress(check, min(command.percent, _RUNNING_MAX), command.message)
            case MailsFound():
                self._found(command.check_id, command.batch, command.cursor, command.equals)
            case Finish():
                if command.cursor is not None:
                    self._found(command.check_id, (), command.cursor, {})
                message, status = command.message, command.status
                if not message and status == "ok":
                    message = zh.CHECKED.format(check.found) if check.found else zh.NOTHING_NEW
                if status == "ok" and state.failed:
                    self.effects.append(events.LookAgain(state.email_id))
                self.end(self.id, check.check_id, status, message, command.error_class, command.advice)
        return Done()

    def _report(self, command: ReportStatus | ReportProgress) -> None:
        """Apply a report to the open check. If there is none, open one that an application runs."""
        check = self.state.check
        if check is None:
            check = Check(self.context.take("check", 1), implicit=True)
            self._started(check)
            self.rows.append(records.check_put(self.id, self.user_id, check.check_id, implicit=True))
        if isinstance(command, ReportProgress):
            if not check.started:
                self._begin(check, command.message)
            self._progress(check, min(command.percent, events.PROGRESS_MAX), command.message)
        elif command.status in events.STATUSES_TERMINAL:
            self.end(self.id, check.check_id, command.status, command.message)
            if not check.implicit:
                self.effects.append(events.StopCheck(check.check_id))
        elif check.started:
            self.status(self.id, check.check_id, command.status, command.message)
        else:
            self._begin(check, command.message, command.status)
            self._progress(check, 0, command.message)

    def _begin(self, check: Check, message: str, status: str = "processing", by: str = "") -> None:
        """Add the start of a check."""
        self._started(check, by)
        self.status(self.id, check.check_id, status, message)

    def _started(self, check: Check, by: str = "") -> None:
        """Add who runs the check, and that it began if it had not."""
        self._note(
            events.CheckStarted(
                timestamp=self.now, check_id=check.check_id, implicit=check.implicit, by=by or UNSET
            )
        )

    def _progress(self, check: Check, percent: int, message: str) -> None:
        """Add progress, never below the last one. The internal floor rises with it."""
        percent = max(percent, self._floor)
        self.say_progress(self.id, check.check_id, percent, message)
        if percent > self._floor:
            self._note(events.CheckProgressed(timestamp=self.now, check_id=check.check_id, progress=percent))

    def _note(self, body: events.Body) -> None:
        self.fact(self.id, body)

    def _keep(self, command: KeepGrant) -> Done | GrantReplaced:
        if command.generation != self.state.grant:
            return GrantReplaced()
        way, rotated = command.way, command.refresh_token
        self._note(
            events.GrantKept(
                timestamp=self.now,
                rotated=rotated is not None,
                graph=way.graph,
                token_url=way.token_url,
                scope=way.scope,
            )
        )
        if rotated is not None:
            self.secrets.append(SecretPut(events.mailbox_stream(self.id), "refresh_token", rotated))
        return Done()

    def _claim(self, command: ClaimGrant | LeaveGrant) -> Done | GrantHeld:
        by = self.state.grant_by
        if isinstance(command, LeaveGrant):
            if by == command.by:
                self._note(events.GrantClaimed(timestamp=self.now, by=""))
        elif by != command.by:
            if by in command.living:
                return GrantHeld(by)
            self._note(events.GrantClaimed(timestamp=self.now, by=command.by))
        return Done()

    def _watcher_fares(self, command: WatchState) -> None:
        """Tell a failure or a recovery, if it is news. An open check will tell how the mailbox fares."""
        state, recovers = self.state, command.status == "ok"
        is_news = not state.failed or (command.status == "need_reauth" and not state.refused)
        if state.check is None and (state.failed if recovers else is_news):
            message = zh.WATCHING_AGAIN if recovers else command.message
            self.status(self.id, 0, command.status, message, command.error_class, command.advice)
            self._note(events.WatchTold(timestamp=self.now, status=command.status))

    # -- mails ----------------------------------------------------------------------------------------

    def _found(
        self,
        check_id: int,
        batch: Sequence[events.FetchedMail],
        cursor: events.UidCursor,
        equals: Mapping[bytes, Equals],
    ) -> None:
        """Write new mails and the cursor after them in one append."""
        state = self.state
        known = state.seen.get(cursor.folder)
        if known is not None and known.uidvalidity != cursor.uidvalidity:
            self._note(
                events.UidvalidityChanged(
                    timestamp=self.now,
                    folder=cursor.folder,
                    before=known.uidvalidity,
                    after=cursor.uidvalidity,
                )
            )
        elif known is not None:
            if cursor.uidvalidity == events.GRAPH_UIDVALIDITY:
                # Numbers there are ours: they follow what another reading may have stored meanwhile.
                batch = [replace(mail, uid=uid) for uid, mail in enumerate(batch, start=known.uid + 1)]
                cursor = events.UidCursor(
                    cursor.folder, cursor.uidvalidity, known.uid + len(batch), cursor.link
                )
            if known.rest > cursor.uid or cursor.rest > known.uid:
                return  # two readings began at different ends, and what lies between is read by the next one
            link = cursor.link if cursor.uid >= known.uid else known.link
            whole = (max(known.uid, cursor.uid), min(known.rest, cursor.rest), link)
            if whole == (known.uid, known.rest, known.link):
                return
            cursor = events.UidCursor(cursor.folder, cursor.uidvalidity, whole[0], link, whole[1])
        place = cursor.folder, cursor.uidvalidity
        fresh = {
            mail.uid: mail
            for mail in batch
            if (mail.folder, mail.uidvalidity) == place
            and mail.uid <= cursor.uid
            and not state.knows(*place, mail.uid)
        }
        self._mails(list(fresh.values()), cursor, check_id, equals)

    def _mails(
        self,
        fresh: list[events.FetchedMail],
        cursor: events.UidCursor,
        check_id: int,
        equals: Mapping[bytes, Equals],
    ) -> None:
        """Add new mails with their records and contents, and the cursor after them."""
        state = self.state
        place = place_of(state.server, cursor.folder, cursor.uidvalidity)
        known: dict[bytes, list[Known]] = {}
        new: list[events.FetchedMail] = []
        same: list[tuple[int, int]] = []
        for mail in fresh:
            digest = digest_of(mail)
            before = equals.get(digest, Equals())
            mails = known.setdefault(digest, list(before.mails))
            at = next((n for n, one in enumerate(mails) if place not in one.places), None)
            if mail.remote_id:
                self.rows.append(records.remote_put(self.id, mail.remote_id))
            if at is None:
                mails.append(Known(0, received_ms(mail, self.context.now_ms), (place,)))
                new.append(mail)
            else:
                mails[at] = mails[at].met_in(place)
                same.append((mails[at].mail_id, mail.uid))
                self._met(before.record(mails[at].mail_id), mails[at].received_ms, mail)
        found = self._new(new, known)
        for digest, mails in known.items():
            self.rows.append(RowPut(records.KNOWN, str(self.id), digest, encoded(mails)))
        self._note(
            events.CursorMoved(
                timestamp=self.now,
                check_id=check_id,
                folder=cursor.folder,
                uidvalidity=cursor.uidvalidity,
                uid=cursor.uid,
                mails=tuple(found),
                link=cursor.link or UNSET,
                rest=cursor.rest or UNSET,
                same=tuple(same) or UNSET,
            ),
        )

    def _new(self, new: list[events.FetchedMail], known: dict[bytes, list[Known]]) -> list[events.FoundMail]:
        """Add new mails; they get their ids in `known` too."""
        now = self.now
        first = self.context.take("mail", len(new)) if new else 0
        found = []
        for mail_id, mail in enumerate(new, start=first):
            mails = known[digest_of(mail)]
            at = next(n for n, one in enumerate(mails) if not one.mail_id)
            moment_ms = mails[at].received_ms
            mails[at] = Known(mail_id, moment_ms, mails[at].places)
            record = records.MailRecord(
                mail_id=mail_id,
                email_id=self.id,
                subject=records.clean(mail.subject, records.SUBJECT_CHARS_MAX),
                sender=records.clean(mail.sender, records.SENDER_CHARS_MAX),
                received_time=records.rfc3339(moment_ms),
                folder=records.clean(mail.folder, records.FOLDER_CHARS_MAX),
                has_attachments=mail.has_attachments,
                size=mail.size,
                blob=blob_id(mail.content) if mail.content else "",
                code=records.clean(mail.code, records.CODE_CHARS_MAX) or UNSET,
                code_confidence=mail.code_confidence if mail.code else UNSET,
                uid=mail.uid,
                uidvalidity=mail.uidvalidity,
                remote_id=mail.remote_id or UNSET,
                recipients=records.recipients_of(mail.recipients),
            )
            self.say(
                self.id,
                events.MailReceived(
                    timestamp=now,
                    email_id=record.email_id,
                    mail_id=mail_id,
                    subject=record.subject,
                    sender=record.sender,
                    received_time=record.received_time,
                    folder=record.folder,
                    has_attachments=record.has_attachments,
                    code=record.code,
                    code_confidence=record.code_confidence,
                ),
            )
            self.rows += records.mail_rows(record, self.user_id, moment_ms)
            if mail.content:
                self._blobs.append(mail.content)
            else:
                self.rows.append(
                    RowPut(records.MISSING, str(self.id), records.record_key(moment_ms, mail_id), b"")
                )
            if mail.source:
                source = blob_id(mail.source).encode()
                self.rows.append(RowPut(records.SOURCES, str(self.id), records.mail_key(mail_id), source))
                self._blobs.append(mail.source)
            found.append(events.FoundMail(mail_id, mail.uid, mail.size, record.blob, mail.remote_id or UNSET))
        if any(not mail.content for mail in new):
            self.rows.append(RowPut(records.UNREAD_BODIES, "", records.email_key(self.id), b""))
            self.effects.append(events.ReadBodies(self.id))
        return found

    def _met(self, record: records.MailRecord | None, moment_ms: int, mail: events.FetchedMail) -> None:
        """A known mail was met in another place, so its record says that one."""
        if record is not None:
            folder = records.clean(mail.folder, records.FOLDER_CHARS_MAX)
            place = {"folder": folder, "uid": mail.uid, "uidvalidity": mail.uidvalidity}
            moved = replace(record, **place, remote_id=mail.remote_id or UNSET)
            self.rows += records.mail_rows(moved, self.user_id, moment_ms)

    def _contents(self, contents: Sequence[Content]) -> None:
        """Add the contents of mails that were told by their headers."""
        kept = []
        for one in contents:
            record = replace(one.record, blob=blob_id(one.content), has_attachments=one.has_attachments)
            self.rows += records.mail_rows(record, self.user_id, one.received_ms)
            self.rows.append(
                RowDrop(records.MISSING, str(self.id), records.record_key(one.received_ms, record.mail_id))
            )
            self._blobs.append(one.content)
            kept.append(events.KeptMail(record.mail_id, record.blob, one.record.has_attachments))
        self._note(events.ContentsKept(timestamp=self.now, mails=tuple(kept)))

    def _unread(self, seen: SeeUnread) -> None:
        """Add which mails of a folder are unread there, if that changed."""
        told = self.state.unread.get(seen.folder)
        if unread_digest(seen.uidvalidity, seen.uids) != told and (told is not None or seen.uids):
            self._note(
                events.UnreadThere(
                    timestamp=self.now, folder=seen.folder, uidvalidity=seen.uidvalidity, uids=seen.uids
                )
            )
            self.rows.append(records.unread_put(self.id, seen.folder, seen.uidvalidity, seen.uids))
