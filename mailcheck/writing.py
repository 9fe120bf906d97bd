"""What one decision about mail writes: events, rows, secrets and effects. Pure.

Rosters and mailboxes write the same two streams, that of the user and that of the mailbox.
"""

from typing import Any

from huahuo.actors.entities.decider import Context, Decision
from huahuo.actors.plugins.calls import UserId
from huahuo.eventstore.model import NewEvent, RowDrop, RowPut, SecretPut
from huahuo.mailcheck import events, records


class Writing:
    """Gathers what one decision writes."""

    def __init__(self, user_id: UserId, context: Context) -> None:
        self.user_id = user_id
        self.context = context
        self.now = context.timestamp
        self.events: list[NewEvent] = []
        self.effects: list[events.Effect] = []
        self.rows: list[RowPut | RowDrop] = []
        self.secrets: list[SecretPut] = []

    def gathered[R](self, reply: R, **more: Any) -> Decision[R, events.Effect]:
        """Everything, as one append."""
        return Decision(
            reply=reply,
            at_stream=events.user_stream(self.user_id),
            events=tuple(self.events),
            effects=tuple(self.effects),
            rows=tuple(self.rows),
            secrets=tuple(self.secrets),
            **more,
        )

    def say(self, email_id: int, body: events.Body) -> None:
        """Add a public event about a mailbox."""
        self.events.append(events.public(self.user_id, email_id, body))

    def fact(self, email_id: int, body: events.Body) -> None:
        """Add an internal fact of a mailbox."""
        self.events.append(events.internal(email_id, body))

    def status(
        self, email_id: int, check_id: int, status: str, message: str, error_class: str = "", advice: str = ""
    ) -> None:
        """Add the public status of a check, 0 for that of the mailbox's watcher."""
        self.say(
            email_id,
            events.EmailStatusUpdate(
                timestamp=self.now,
                email_id=email_id,
                status=status,
                message=records.clean(message, records.MESSAGE_CHARS_MAX),
                check_id=check_id,
                error_class=error_class,
                advice=advice,
            ),
        )

    def say_progress(self, email_id: int, check_id: int, percent: int, message: str) -> None:
        """Add the public progress of a check."""
        self.say(
            email_id,
            events.CheckProgress(
                timestamp=self.now,
                email_id=email_id,
                progress=percent,
                message=records.clean(message, records.MESSAGE_CHARS_MAX),
                check_id=check_id,
            ),
        )

    def end(
        self, email_id: int, check_id: int, status: str, message: str, error_class: str = "", advice: str = ""
    ) -> None:
        """Add progress 100, the terminal status and the internal end of a check."""
        self.say_progress(email_id, check_id, events.PROGRESS_MAX, message)
        self.status(email_id, check_id, status, message, error_class, advice)
        self.fact(email_id, events.CheckEnded(timestamp=self.now, check_id=check_id, status=status))
        self.rows.append(RowDrop(records.CHECKS, "", records.email_key(email_id)))
