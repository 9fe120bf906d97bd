"""What one decision of a mailbox writes: the facts of its check, its grant and its watcher. Pure.

`mail_writing` adds what mails write.
"""

from msgspec import UNSET

from huahuo.actors.entities.decider import Context, Decision
from huahuo.eventstore.model import NewEvent, RowDrop, RowPut, Secret, SecretPut
from huahuo.mailcheck.effects import Effect, LookAgain, StopCheck
from huahuo.mailcheck.events import (
    PROGRESS_MAX,
    Body,
    CheckEnded,
    CheckProgress,
    CheckProgressed,
    CheckStarted,
    EmailStatusUpdate,
    GrantClaimed,
    GrantKept,
    WatchTold,
)
from huahuo.mailcheck.fetched import Way
from huahuo.mailcheck.mailbox.commands import MailboxReply, WatchState
from huahuo.mailcheck.mailbox.state import Check, Mailbox
from huahuo.mailcheck.stored_events import internal, public
from huahuo.mailcheck.streams import mailbox_stream, user_stream
from huahuo.mailcheck.tables.records import (
    CHECKS,
    MESSAGE_CHARS_MAX,
    check_put,
    clean,
    email_key,
)


class Writing:
    """Gathers what one decision writes. It never changes the state."""

    def __init__(self, state: Mailbox, context: Context) -> None:
        self.state = state
        self.context = context
        self._events: list[NewEvent] = []
        self._effects: list[Effect] = []
        self._rows: list[RowPut | RowDrop] = []
        self._blobs: list[bytes] = []
        self._secrets: list[SecretPut] = []
        self._floor = 0 if state.check is None else state.check.progress

    def decision(self, reply: MailboxReply) -> Decision[MailboxReply, Effect]:
        """Everything gathered, as one append."""
        return Decision(
            reply=reply,
            at_stream=user_stream(self.state.user_id),
            events=tuple(self._events),
            effects=tuple(self._effects),
            rows=tuple(self._rows),
            blobs=tuple(self._blobs),
            secrets=tuple(self._secrets),
            owner=user_stream(self.state.user_id) if self._blobs else "",
        )

    def fact(self, body: Body) -> None:
        """Add an internal fact."""
        self._events.append(internal(self.state.email_id, body))

    def say(self, body: Body) -> None:
        """Add a public event."""
        self._events.append(public(self.state.user_id, self.state.email_id, body))

    def open_implicit(self) -> Check:
        """Open a check that an embedding application runs."""
        check = Check(self.context.take("check", 1), implicit=True)
        state = self.state
        self.started(check)
        self._rows.append(check_put(state.email_id, state.user_id, check.check_id, implicit=True))
        return check

    def begin(self, check: Check, message: str, status: str = "processing", by: str = "") -> None:
        """Add the start of a check."""
        self.started(check, by)
        self.status(check, status, message)

    def keep_grant(self, way: Way, refresh_token: Secret | None) -> None:
        """Add how a grant was accepted, and the next refresh token."""
        self.fact(
            GrantKept(
                timestamp=self.context.timestamp,
                rotated=refresh_token is not None,
                graph=way.graph,
                token_url=way.token_url,
                scope=way.scope,
            )
        )
        if refresh_token is not None:
            self._secrets.append(
                SecretPut(mailbox_stream(self.state.email_id), "refresh_token", refresh_token)
            )

    def claim_grant(self, by: str) -> None:
        """Add who asks for a token by the grant, "" for nobody any more."""
        self.fact(GrantClaimed(timestamp=self.context.timestamp, by=by))

    def status(
        self, check: Check, status: str, message: str, *, error_class: str = "", advice: str = ""
    ) -> None:
        """Add the public status of a check."""
        self._status(check.check_id, status, message, error_class, advice)

    def watcher(self, fares: WatchState, message: str) -> None:
        """Add the public status of the mailbox's watcher, and that it was told."""
        self._status(0, fares.status, message, fares.error_class, fares.advice)
        self.fact(WatchTold(timestamp=self.context.timestamp, status=fares.status))

    def look_again(self) -> None:
        """Add the effect by which the mailbox's watcher tries again."""
        self._effects.append(LookAgain(self.state.email_id))

    def _status(self, check_id: int, status: str, message: str, error_class: str, advice: str) -> None:
        self.say(
            EmailStatusUpdate(
                timestamp=self.context.timestamp,
                email_id=self.state.email_id,
                status=status,
                message=clean(message, MESSAGE_CHARS_MAX),
                check_id=check_id,
                error_class=error_class,
                advice=advice,
            )
        )

    def progress(self, check: Check, percent: int, message: str) -> None:
        """Add progress, never below the last one. The internal floor rises with it."""
        percent = max(percent, self._floor)
        self._say_progress(check, percent, message)
        if percent > self._floor:
            self.fact(
                CheckProgressed(timestamp=self.context.timestamp, check_id=check.check_id, progress=percent)
            )

    def end(
        self, check: Check, status: str, message: str, *, error_class: str = "", advice: str = ""
    ) -> None:
        """Add progress 100, the terminal status and the internal end."""
        self._say_progress(check, PROGRESS_MAX, message)
        self.status(check, status, message, error_class=error_class, advice=advice)
        self.fact(CheckEnded(timestamp=self.context.timestamp, check_id=check.check_id, status=status))
        self._rows.append(RowDrop(CHECKS, "", email_key(self.state.email_id)))

    def stop(self, check: Check) -> None:
        """Add the effect that stops the task of the check."""
        self._effects.append(StopCheck(check.check_id))

    def started(self, check: Check, by: str = "") -> None:
        """Add who runs the check, and that it began if it had not."""
        self.fact(
            CheckStarted(
                timestamp=self.context.timestamp,
                check_id=check.check_id,
                implicit=check.implicit,
                by=by or UNSET,
            )
        )

    def _say_progress(self, check: Check, percent: int, message: str) -> None:
        self.say(
            CheckProgress(
                timestamp=self.context.timestamp,
                email_id=self.state.email_id,
                progress=percent,
                message=clean(message, MESSAGE_CHARS_MAX),
                check_id=check.check_id,
            )
        )
