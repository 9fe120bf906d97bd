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
"""

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import UNSET
from msgspec.structs import replace

from huahuo.actors.entities.decider import Context, Decision
from huahuo.eventstore.blobs import blob_id
from huahuo.eventstore.model import RowDrop, RowPut, SecretPut
from huahuo.mailcheck import zh
from huahuo.mailcheck.events import (
    PROGRESS_MAX,
    STATUSES_TERMINAL,
    CheckProgressed,
    CheckStarted,
    ContentsKept,
    CursorMoved,
    Effect,
    FoundMail,
    GrantClaimed,
    GrantKept,
    KeptMail,
    LookAgain,
    MailReceived,
    ReadBodies,
    StopCheck,
    UidvalidityChanged,
    UnreadThere,
    WatchTold,
    mailbox_stream,
    user_stream,
)
from huahuo.mailcheck.fetched import GRAPH_UIDVALIDITY, FetchedMail, UidCursor
from huahuo.mailcheck.mailbox.commands import (
    Begin,
    CheckHeld,
    CheckOver,
    ClaimGrant,
    Content,
    Done,
    Equals,
    Finish,
    GrantHeld,
    GrantReplaced,
    KeepContents,
    KeepGrant,
    Known,
    LeaveGrant,
    MailboxCommand,
    MailboxReply,
    MailsFound,
    MailsSeen,
    NoMailbox,
    Plan,
    Progress,
    ReportProgress,
    ReportStatus,
    SeeUnread,
    WatchState,
    digest_of,
    encoded,
    place_of,
)
from huahuo.mailcheck.mailbox.state import Check, Mailbox, MailboxFold, unread_digest
from huahuo.mailcheck.records import (
    CODE_CHARS_MAX,
    FOLDER_CHARS_MAX,
    KNOWN,
    MISSING,
    SENDER_CHARS_MAX,
    SOURCES,
    SUBJECT_CHARS_MAX,
    UNREAD_BODIES,
    MailRecord,
    check_put,
    clean,
    email_key,
    mail_key,
    mail_rows,
    received_ms,
    recipients_of,
    record_key,
    remote_put,
    rfc3339,
    unread_put,
)
from huahuo.mailcheck.writing import Writing


class MailboxWriting(Writing):
    """Gathers what one decision writes. It never changes the state."""

    def __init__(self, state: Mailbox, context: Context) -> None:
        super().__init__(state.user_id, context)
        self.state = state
        self.id = state.email_id
        self._blobs: list[bytes] = []
        self._floor = 0 if state.check is None else state.check.progress

    def decision(self, reply: MailboxReply) -> Decision[MailboxReply, Effect]:
        """Everything gathered, as one append."""
        owner = user_stream(self.user_id) if self._blobs else ""
        return self.gathered(reply, blobs=tuple(self._blobs), owner=owner)

    def open_implicit(self) -> Check:
        """Open a check that an embedding application runs."""
        check = Check(self.context.take("check", 1), implicit=True)
        self.started(check)
        self.rows.append(check_put(self.id, self.user_id, check.check_id, implicit=True))
        return check

    def begin(self, check: Check, message: str, status: str = "processing", by: str = "") -> None:
        """Add the start of a check."""
        self.started(check, by)
        self.status(self.id, check.check_id, status, message)

    def watcher(self, fares: WatchState, message: str) -> None:
        """Add the public status of the mailbox's watcher, and that it was told."""
        self.status(self.id, 0, fares.status, message, fares.error_class, fares.advice)
        self.fact(self.id, WatchTold(timestamp=self.now, status=fares.status))

    def progress(self, check: Check, percent: int, message: str) -> None:
        """Add progress, never below the last one. The internal floor rises with it."""
        percent = max(percent, self._floor)
        self.say_progress(self.id, check.check_id, percent, message)
        if percent > self._floor:
            fact = CheckProgressed(timestamp=self.now, check_id=check.check_id, progress=percent)
            self.fact(self.id, fact)

    def started(self, check: Check, by: str = "") -> None:
        """Add who runs the check, and that it began if it had not."""
        fact = CheckStarted(
            timestamp=self.now, check_id=check.check_id, implicit=check.implicit, by=by or UNSET
        )
        self.fact(self.id, fact)

    def mails(
        self, fresh: list[FetchedMail], cursor: UidCursor, check_id: int, equals: Mapping[bytes, Equals]
    ) -> None:
        """Add new mails with their records and contents, and the cursor after them."""
        state = self.state
        place = place_of(state.server, cursor.folder, cursor.uidvalidity)
        known: dict[bytes, list[Known]] = {}
        new: list[FetchedMail] = []
        same: list[tuple[int, int]] = []
        for mail in fresh:
            digest = digest_of(mail)
            before = equals.get(digest, Equals())
            mails = known.setdefault(digest, list(before.mails))
            at = next((n for n, one in enumerate(mails) if place not in one.places), None)
            if mail.remote_id:
                self.rows.append(remote_put(self.id, mail.remote_id))
            if at is None:
                mails.append(Known(0, received_ms(mail, self.context.now_ms), (place,)))
                new.append(mail)
            else:
                mails[at] = mails[at].met_in(place)
                same.append((mails[at].mail_id, mail.uid))
                self._met(before.record(mails[at].mail_id), mails[at].received_ms, mail)
        found = self._new(new, known)
        for digest, mails in known.items():
            self.rows.append(RowPut(KNOWN, str(self.id), digest, encoded(mails)))
        self.fact(
            self.id,
            CursorMoved(
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

    def _new(self, new: list[FetchedMail], known: dict[bytes, list[Known]]) -> list[FoundMail]:
        """Add new mails; they get their ids in `known` too."""
        now = self.now
        first = self.context.take("mail", len(new)) if new else 0
        found = []
        for mail_id, mail in enumerate(new, start=first):
            mails = known[digest_of(mail)]
            at = next(n for n, one in enumerate(mails) if not one.mail_id)
            moment_ms = mails[at].received_ms
            mails[at] = Known(mail_id, moment_ms, mails[at].places)
            record = MailRecord(
                mail_id=mail_id,
                email_id=self.id,
                subject=clean(mail.subject, SUBJECT_CHARS_MAX),
                sender=clean(mail.sender, SENDER_CHARS_MAX),
                received_time=rfc3339(moment_ms),
                folder=clean(mail.folder, FOLDER_CHARS_MAX),
                has_attachments=mail.has_attachments,
                size=mail.size,
                blob=blob_id(mail.content) if mail.content else "",
                code=clean(mail.code, CODE_CHARS_MAX) or UNSET,
                code_confidence=mail.code_confidence if mail.code else UNSET,
                uid=mail.uid,
                uidvalidity=mail.uidvalidity,
                remote_id=mail.remote_id or UNSET,
                recipients=recipients_of(mail.recipients),
            )
            self.say(
                self.id,
                MailReceived(
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
            self.rows += mail_rows(record, self.user_id, moment_ms)
            if mail.content:
                self._blobs.append(mail.content)
            else:
                self.rows.append(RowPut(MISSING, str(self.id), record_key(moment_ms, mail_id), b""))
            if mail.source:
                source = blob_id(mail.source).encode()
                self.rows.append(RowPut(SOURCES, str(self.id), mail_key(mail_id), source))
                self._blobs.append(mail.source)
            found.append(FoundMail(mail_id, mail.uid, mail.size, record.blob, mail.remote_id or UNSET))
        if any(not mail.content for mail in new):
            self.rows.append(RowPut(UNREAD_BODIES, "", email_key(self.id), b""))
            self.effects.append(ReadBodies(self.id))
        return found

    def contents(self, contents: Sequence[Content]) -> None:
        """Add the contents of mails that were told by their headers."""
        kept = []
        for one in contents:
            record = replace(one.record, blob=blob_id(one.content), has_attachments=one.has_attachments)
            self.rows += mail_rows(record, self.user_id, one.received_ms)
            key = record_key(one.received_ms, record.mail_id)
            self.rows.append(RowDrop(MISSING, str(self.id), key))
            self._blobs.append(one.content)
            kept.append(KeptMail(record.mail_id, record.blob, one.record.has_attachments))
        self.fact(self.id, ContentsKept(timestamp=self.now, mails=tuple(kept)))

    def unread(self, seen: SeeUnread) -> None:
        """Add which mails of a folder are unread there, if that changed."""
        digest = unread_digest(seen.uidvalidity, seen.uids)
        told = self.state.unread.get(seen.folder)
        if digest == told or (told is None and not seen.uids):
            return
        fact = UnreadThere(
            timestamp=self.now,
            folder=seen.folder,
            uidvalidity=seen.uidvalidity,
            uids=seen.uids,
        )
        self.fact(self.id, fact)
        self.rows.append(unread_put(self.id, seen.folder, seen.uidvalidity, seen.uids))

    def _met(self, record: MailRecord | None, moment_ms: int, mail: FetchedMail) -> None:
        """A known mail was met in another place, so its record says that one."""
        if record is not None:
            folder = clean(mail.folder, FOLDER_CHARS_MAX)
            place = {"folder": folder, "uid": mail.uid, "uidvalidity": mail.uidvalidity}
            moved = replace(record, **place, remote_id=mail.remote_id or UNSET)
            self.rows += mail_rows(moved, self.user_id, moment_ms)


_RUNNING_MAX: Final = PROGRESS_MAX - 1
"""The highest progress of a running check, because 100 is its end."""


class MailboxDecider(MailboxFold):
    """See the module's docstring."""

    guarded: Final = True

    def decide(
        self, state: Mailbox, command: MailboxCommand, context: Context
    ) -> Decision[MailboxReply, Effect]:
        """See `Decider`."""
        if not state.exists:
            return Decision(reply=NoMailbox())
        writing = MailboxWriting(state, context)
        return writing.decision(_decided(writing, command))


def _decided(writing: MailboxWriting, command: MailboxCommand) -> MailboxReply:
    match command:
        case ReportStatus() | ReportProgress():
            _report(writing, command)
        case KeepGrant():
            return _keep(writing, command)
        case ClaimGrant() | LeaveGrant():
            return _claim(writing, command)
        case MailsSeen():
            _found(writing, 0, command.batch, command.cursor, command.equals)
        case KeepContents():
            writing.contents(command.contents)
        case SeeUnread():
            writing.unread(command)
        case WatchState():
            _watcher_fares(writing, command)
        case Begin() | Progress() | MailsFound() | Finish():
            return _of_check(writing, command)
    return Done()


def _of_check(writing: MailboxWriting, command: Begin | Progress | MailsFound | Finish) -> MailboxReply:
    state, check = writing.state, writing.state.check
    if check is None or check.check_id != command.check_id:
        return CheckOver()
    match command:
        case Begin(_, by, living):
            if not check.started:
                writing.begin(check, zh.CONNECTING, by=by)
                writing.progress(check, 0, zh.CONNECTING)
            elif check.by != by:
                if check.by in living:
                    return CheckHeld(check.by)
                writing.started(check, by)
            return plan_of(state)
        case Progress():
            writing.progress(check, min(command.percent, _RUNNING_MAX), command.message)
        case MailsFound():
            _found(writing, command.check_id, command.batch, command.cursor, command.equals)
        case Finish():
            if command.cursor is not None:
                _found(writing, command.check_id, (), command.cursor, {})
            message = command.message
            if not message and command.status == "ok":
                message = zh.CHECKED.format(check.found) if check.found else zh.NOTHING_NEW
            if command.status == "ok" and state.failed:
                writing.effects.append(LookAgain(state.email_id))
            writing.end(
                writing.id, check.check_id, command.status, message, command.error_class, command.advice
            )
    return Done()


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


def _keep(writing: MailboxWriting, command: KeepGrant) -> Done | GrantReplaced:
    if command.generation != writing.state.grant:
        return GrantReplaced()
    way, rotated = command.way, command.refresh_token
    kept = GrantKept(
        timestamp=writing.now,
        rotated=rotated is not None,
        graph=way.graph,
        token_url=way.token_url,
        scope=way.scope,
    )
    writing.fact(writing.id, kept)
    if rotated is not None:
        writing.secrets.append(SecretPut(mailbox_stream(writing.id), "refresh_token", rotated))
    return Done()


def _claim(writing: MailboxWriting, command: ClaimGrant | LeaveGrant) -> Done | GrantHeld:
    by = writing.state.grant_by
    if isinstance(command, LeaveGrant):
        if by == command.by:
            writing.fact(writing.id, GrantClaimed(timestamp=writing.now, by=""))
    elif by != command.by:
        if by in command.living:
            return GrantHeld(by)
        writing.fact(writing.id, GrantClaimed(timestamp=writing.now, by=command.by))
    return Done()


def _watcher_fares(writing: MailboxWriting, command: WatchState) -> None:
    """Tell a failure or a recovery, if it is news. An open check will tell how the mailbox fares."""
    state = writing.state
    if state.check is not None:
        return
    if command.status == "ok":
        if state.failed:
            writing.watcher(command, zh.WATCHING_AGAIN)
    elif not state.failed or (command.status == "need_reauth" and not state.refused):
        writing.watcher(command, command.message)


def _report(writing: MailboxWriting, command: ReportStatus | ReportProgress) -> None:
    """Apply a report to the open check. If there is none, open an implicit one."""
    check = writing.state.check or writing.open_implicit()
    if isinstance(command, ReportProgress):
        if not check.started:
            writing.begin(check, command.message)
        writing.progress(check, min(command.percent, PROGRESS_MAX), command.message)
    elif command.status in STATUSES_TERMINAL:
        writing.end(writing.id, check.check_id, command.status, command.message)
        if not check.implicit:
            writing.effects.append(StopCheck(check.check_id))
    elif check.started:
        writing.status(writing.id, check.check_id, command.status, command.message)
    else:
        writing.begin(check, command.message, command.status)
        writing.progress(check, 0, command.message)


def _found(
    writing: MailboxWriting,
    check_id: int,
    batch: Sequence[FetchedMail],
    cursor: UidCursor,
    equals: Mapping[bytes, Equals],
) -> None:
    """Write new mails and the cursor after them in one append."""
    known = writing.state.seen.get(cursor.folder)
    if known is not None and known.uidvalidity != cursor.uidvalidity:
        changed = UidvalidityChanged(
            timestamp=writing.now,
            folder=cursor.folder,
            before=known.uidvalidity,
            after=cursor.uidvalidity,
        )
        writing.fact(writing.id, changed)
    elif known is not None:
        if cursor.uidvalidity == GRAPH_UIDVALIDITY:
            # Numbers there are ours: they follow what another reading may have stored meanwhile.
            batch = [replace(mail, uid=uid) for uid, mail in enumerate(batch, start=known.uid + 1)]
            cursor = UidCursor(cursor.folder, cursor.uidvalidity, known.uid + len(batch), cursor.link)
        if known.rest > cursor.uid or cursor.rest > known.uid:
            return  # two readings began at different ends, and what lies between is read by the next one
        link = cursor.link if cursor.uid >= known.uid else known.link
        whole = (max(known.uid, cursor.uid), min(known.rest, cursor.rest), link)
        if whole == (known.uid, known.rest, known.link):
            return
        cursor = UidCursor(cursor.folder, cursor.uidvalidity, whole[0], link, whole[1])
    state = writing.state
    fresh = [m for m in batch if _of(m, cursor) and not state.knows(m.folder, m.uidvalidity, m.uid)]
    fresh = list({m.uid: m for m in fresh if m.uid <= cursor.uid}.values())
    writing.mails(fresh, cursor, check_id, equals)


def _of(mail: FetchedMail, cursor: UidCursor) -> bool:
    return (mail.folder, mail.uidvalidity) == (cursor.folder, cursor.uidvalidity)
