"""The two deciders of the mail domain over a list of events, without a loop: given, when, then.

    book = Book()
    book.roster(7, AddEmail(...))       decides, writes, evolves, and gives the decision
    book.mailbox(1, Begin(3))
    book.types("user/7")                what was said

It writes as an entity does: events, rows, secrets and expectations in one step, or nothing.
"""

from typing import Any

import msgspec

from huahuo.actors.entities.decider import Context, Decision
from huahuo.eventstore.ambient import rfc3339
from huahuo.eventstore.blobs import blob_id
from huahuo.eventstore.errors import Conflict
from huahuo.eventstore.model import RowPut, Secret, StoredEvent
from huahuo.mailcheck.api.mailbox_list import snapshot_of
from huahuo.mailcheck.events import Effect, FetchedMail, UidCursor
from huahuo.mailcheck.mailbox.decider import MailboxCommand, MailboxDecider, MailboxReply
from huahuo.mailcheck.mailbox.state import Mailbox
from huahuo.mailcheck.records import MailReply, Success
from huahuo.mailcheck.roster.decider import AddEmail, RosterCommand, RosterDecider
from huahuo.mailcheck.roster.state import Roster

USER = 7
NOW_MS = 1_790_000_000_000


def snapshot_state(state: Roster) -> bytes:
    """The state of a snapshot in one piece."""
    return b"".join(snapshot_of(state).pieces())


class Book:
    """A log in its simplest form, with one decider of each kind."""

    def __init__(self, **bounds: int) -> None:
        self.events: list[StoredEvent] = []
        self.heads: dict[str, int] = {}
        self.counters: dict[str, int] = {}
        self.rows: dict[tuple[str, str, bytes], bytes] = {}
        self.blobs: dict[str, bytes] = {}
        self.secrets: dict[tuple[str, str], Secret] = {}
        self.effects: list[Effect] = []
        self.now_ms = NOW_MS
        self.rosters = RosterDecider(**bounds)  # type: ignore[arg-type]
        self.mailboxes = MailboxDecider()

    def roster(self, user_id: int, command: RosterCommand) -> Decision[MailReply, Effect]:
        """A roster decides, and it is done."""
        decision = self.rosters.decide(self.roster_state(user_id), command, self.context())
        self.write(decision)
        return decision

    def mailbox(self, email_id: int, command: MailboxCommand) -> MailboxReply:
        """A mailbox decides, and it is done."""
        state = self.mailbox_state(email_id)
        expected = {f"mailbox/{email_id}": self.heads.get(f"mailbox/{email_id}", 0)}
        decision = self.mailboxes.decide(state, command, self.context())
        self.write(decision, expected)
        return decision.reply

    def add(self, email: str = "a@example.com", **fields: Any) -> int:
        """Add a mailbox of type imap to the user; gives its id."""
        secrets = {"password": Secret("canary-password")}
        command = AddEmail(**{"email": email, "mail_type": "imap", "secrets": secrets} | fields)
        reply = self.roster(USER, command).reply
        assert isinstance(reply, Success), reply
        assert reply.email_id is not None
        return reply.email_id

    def write(self, decision: Decision[Any, Effect], expected: dict[str, int] | None = None) -> None:
        """One append. Raises Conflict and writes nothing if an expectation does not hold."""
        for stream, seq in {**decision.expected, **(expected or {})}.items():
            if self.heads.get(stream, 0) != seq:
                raise Conflict(stream, seq, self.heads.get(stream, 0))
        for new in decision.events:
            seq = self.heads[new.stream] = self.heads.get(new.stream, 0) + 1
            position = len(self.events) + 1
            self.events.append(
                StoredEvent(
                    position=position,
                    stream=new.stream,
                    seq=seq,
                    type=new.type,
                    body=new.body,
                    version=new.version,
                    ts_ms=self.now_ms,
                    entity=new.entity,
                    principal="",
                    command_id="",
                    cause=0,
                    build="",
                    chain=b"",
                )
            )
        for row in decision.rows:
            if isinstance(row, RowPut):
                self.rows[row.table, row.part, row.key] = row.value
            else:
                assert row.key is not None
                self.rows.pop((row.table, row.part, row.key), None)
        self.secrets = {key: s for key, s in self.secrets.items() if key[0] not in decision.shred}
        self.secrets |= {(put.owner, put.name): put.value for put in decision.secrets}
        self.blobs |= {blob_id(data): data for data in decision.blobs}
        self.effects += decision.effects

    def context(self) -> Context:
        """Time that moves a second with each decision, and numbers from 1."""
        self.now_ms += 1000
        return Context(
            now_ms=self.now_ms,
            timestamp=rfc3339(self.now_ms),
            take=self._take,
            head=lambda stream: self.heads.get(stream, 0),
        )

    def roster_state(self, user_id: int, upto: int | None = None) -> Roster:
        """The fold of the user's stream up to a seq."""
        state = self.rosters.initial(f"user/{user_id}")
        for event in self.stream(f"user/{user_id}")[:upto]:
            state = self.rosters.evolve(state, event)
        return state

    def mailbox_state(self, email_id: int) -> Mailbox:
        """The fold of the mailbox's stream."""
        state = self.mailboxes.initial(f"mailbox/{email_id}")
        for event in self.stream(f"mailbox/{email_id}"):
            state = self.mailboxes.evolve(state, event)
        return state

    def stream(self, name: str) -> list[StoredEvent]:
        """The events of one stream."""
        return [e for e in self.events if e.stream == name]

    def said(self, stream: str, after: int = 0) -> list[dict[str, Any]]:
        """The bodies of a stream behind a seq, without their timestamps."""
        bodies = [msgspec.json.decode(e.body, type=dict[str, Any]) for e in self.stream(stream)[after:]]
        return [{k: v for k, v in body.items() if k != "timestamp"} for body in bodies]

    def types(self, stream: str, after: int = 0) -> list[str]:
        """The types of a stream behind a seq."""
        return [e.type for e in self.stream(stream)[after:]]

    def table(self, name: str) -> list[bytes]:
        """The keys of a projection's rows."""
        return sorted(key for table, _, key in self.rows if table == name)

    def _take(self, counter: str, count: int) -> int:
        first = self.counters.get(counter, 1)
        self.counters[counter] = first + count
        return first


def mail(uid: int, subject: str = "Your code", *, uidvalidity: int = 1, **fields: Any) -> FetchedMail:
    """A small mail as a check fetches it."""
    content = b'{"text":"hi %d","html":"","attachments":[],"truncated":false}' % uid
    given: dict[str, Any] = {
        "folder": "INBOX",
        "uidvalidity": uidvalidity,
        "uid": uid,
        "subject": subject,
        "sender": "shop@example.com",
        "message_id": f"<{uid}@example.com>",
        "date_ms": NOW_MS - 3_600_000,
        "internal_date_ms": fields.get("date_ms", NOW_MS - 3_600_000),
        "has_attachments": False,
        "size": 100 + uid,
        "truncated": False,
        "content": content,
    }
    return FetchedMail(**(given | fields))


def cursor(uid: int, uidvalidity: int = 1) -> UidCursor:
    """A cursor of INBOX."""
    return UidCursor("INBOX", uidvalidity, uid)
