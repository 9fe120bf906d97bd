"""A mailbox's decisions: which events a check may write, when, and how it ends. Pure.

    (none) ──check_requested──▶ queued ──Begin──▶ processing ──Finish──▶ (none)
       └──────────first report──(implicit)────────────▲ │▲
                                                       └─┘ Progress, MailsFound, reports
    the roster's cancel and delete end a check from any state

Each transition is one append that expects the mailbox's stream at the seq of the state. So no event about a
check follows its end, and it ends once: a second writer conflicts, catches up, and finds no open check with
that id.

A `Begin` of a check that runs already (after a restart) writes no event and answers with the cursors. Where
several nodes share the log, a living node keeps its check, and that of another is taken over by name.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from huahuo.actors.entities.decider import Context, Decision
from huahuo.mailcheck.effects import Effect
from huahuo.mailcheck.events import PROGRESS_MAX, STATUSES_TERMINAL, UidvalidityChanged
from huahuo.mailcheck.fetched import GRAPH_UIDVALIDITY, FetchedMail, UidCursor
from huahuo.mailcheck.mailbox.commands import (
    Begin,
    CheckHeld,
    CheckOver,
    ClaimGrant,
    Done,
    Finish,
    GrantHeld,
    GrantReplaced,
    KeepContents,
    KeepGrant,
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
)
from huahuo.mailcheck.mailbox.identity import Equals
from huahuo.mailcheck.mailbox.mail_writing import MailboxWriting
from huahuo.mailcheck.mailbox.state import Mailbox, MailboxFold
from huahuo.mailcheck.words import zh

_RUNNING_MAX: Final = PROGRESS_MAX - 1
"""The highest progress of a running check, because 100 is its end."""
_CONNECTING: Final = zh.CONNECTING


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
        if isinstance(command, ReportStatus | ReportProgress):
            return writing.decision(_report(writing, command))
        if isinstance(command, KeepGrant):
            return writing.decision(_keep(writing, command))
        if isinstance(command, ClaimGrant | LeaveGrant):
            return writing.decision(_claim(writing, command))
        if isinstance(command, MailsSeen):
            _found(writing, 0, command.batch, command.cursor, command.equals)
            return writing.decision(Done())
        if isinstance(command, KeepContents):
            writing.contents(command.contents)
            return writing.decision(Done())
        if isinstance(command, SeeUnread):
            writing.unread(command)
            return writing.decision(Done())
        if isinstance(command, WatchState):
            _watcher_fares(writing, command)
            return writing.decision(Done())
        check = state.check
        if check is None or check.check_id != command.check_id:
            return Decision(reply=CheckOver())
        match command:
            case Begin(_, by, living):
                if not check.started:
                    writing.begin(check, _CONNECTING, by=by)
                    writing.progress(check, 0, _CONNECTING)
                elif check.by != by:
                    if check.by in living:
                        return Decision(reply=CheckHeld(check.by))
                    writing.started(check, by)
                return writing.decision(plan_of(state))
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
                    writing.look_again()
                writing.end(
                    check, command.status, message, error_class=command.error_class, advice=command.advice
                )
        return writing.decision(Done())


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
    writing.keep_grant(command.way, command.refresh_token)
    return Done()


def _claim(writing: MailboxWriting, command: ClaimGrant | LeaveGrant) -> Done | GrantHeld:
    by = writing.state.grant_by
    if isinstance(command, LeaveGrant):
        if by == command.by:
            writing.claim_grant("")
    elif by != command.by:
        if by in command.living:
            return GrantHeld(by)
        writing.claim_grant(command.by)
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


def _report(writing: MailboxWriting, command: ReportStatus | ReportProgress) -> Done:
    """Apply a report to the open check. If there is none, open an implicit one."""
    check = writing.state.check or writing.open_implicit()
    if isinstance(command, ReportProgress):
        if not check.started:
            writing.begin(check, command.message)
        writing.progress(check, min(command.percent, PROGRESS_MAX), command.message)
    elif command.status in STATUSES_TERMINAL:
        writing.end(check, command.status, command.message)
        if not check.implicit:
            writing.stop(check)
    elif check.started:
        writing.status(check, command.status, command.message)
    else:
        writing.begin(check, command.message, command.status)
        writing.progress(check, 0, command.message)
    return Done()


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
        writing.fact(
            UidvalidityChanged(
                timestamp=writing.context.timestamp,
                folder=cursor.folder,
                before=known.uidvalidity,
                after=cursor.uidvalidity,
            )
        )
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
