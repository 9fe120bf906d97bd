"""A small recorded story for replay tests: two mailboxes, a good check, and one that ends in `error`.

story = tell()
story.history        a `ListHistory` over its events
story.good, story.broken
"""

from typing import Any

import msgspec

from huahuo.eventstore.model import StoredEvent
from huahuo.mailcheck.mailbox.decider import Begin, Finish, MailboxCommand, MailsFound, Progress
from huahuo.mailcheck.roster.decider import CheckEmails, DeleteEmails, RosterCommand
from huahuo.replay.history.detached_history import renumbered
from huahuo.replay.history.history import ListHistory
from tests.support.models.mail_book import USER, Book, cursor, mail

U = f"user/{USER}"


class Story(Book):
    """A book whose events say who did it and why, as entities and checks write them."""

    def ask(self, command: RosterCommand, command_id: str = "") -> int:
        """The user asks for something; gives the position of the last event."""
        return self.sign(lambda: self.roster(USER, command), principal=U, command_id=command_id)

    def check(self, email_id: int, command: MailboxCommand, cause: int) -> int:
        """A running check says something; gives the position of the last event."""
        return self.sign(lambda: self.mailbox(email_id, command), principal="service", cause=cause)

    @property
    def history(self) -> ListHistory:
        """Everything so far, with its hash chain."""
        return ListHistory(renumbered(self.events), "story")

    def sign(self, work: Any, **fields: Any) -> int:
        before = len(self.events)
        work()
        self.events[before:] = [msgspec.structs.replace(e, **fields) for e in self.events[before:]]
        return len(self.events)


def tell() -> Story:
    """See the module."""
    story = Story()
    story.now_ms -= story.now_ms % 60_000
    for email in ("good@example.com", "broken@example.com"):
        story.sign(lambda email=email: story.add(email), principal=U, command_id=f"add-{email}")
    asked = story.ask(CheckEmails((1,)), "check-1")
    story.check(1, Begin(1), asked)
    story.check(1, Progress(1, 40, "正在处理"), asked)
    story.check(1, MailsFound(1, (mail(5), mail(6, "second")), cursor(6)), asked)
    story.check(1, Finish(1, "ok"), asked)
    asked = story.ask(CheckEmails((2,)), "check-2")
    story.check(2, Begin(2), asked)
    story.check(2, Progress(2, 60, "正在处理"), asked)
    story.check(2, Finish(2, "error", "无法连接"), asked)
    return story


def deleted(story: Story, email_id: int) -> int:
    """The user deletes a mailbox; gives the position of the last event."""
    return story.ask(DeleteEmails((email_id,)), f"delete-{email_id}")


def types(events: list[StoredEvent]) -> list[str]:
    """The types of some events."""
    return [event.type for event in events]
