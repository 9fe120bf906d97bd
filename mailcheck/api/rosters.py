"""What actions ask of the roster of a user: its rows, its mails, and commands, whole or in parts.

Exceptions of the log and the entities pass through.
"""

import asyncio
from collections.abc import Callable, Container, Iterable
from contextlib import AbstractContextManager
from itertools import batched
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from huahuo.actors.entities.decider import Answer, Origin
from huahuo.actors.entities.entity import Execute, ExecuteParts, Query
from huahuo.actors.plugins.calls import Call, Reply, UserId, from_entity, from_record
from huahuo.eventstore.errors import CommandMismatch
from huahuo.eventstore.executor import Executor
from huahuo.eventstore.model import Secret
from huahuo.eventstore.port import Log
from huahuo.mailcheck.api.mailbox_list import Filter
from huahuo.mailcheck.checks.mailboxes import Mailboxes
from huahuo.mailcheck.events import roster_stream
from huahuo.mailcheck.records import (
    GROUP_PROXIES,
    MAIL,
    MAILS,
    MailPlace,
    MailRecord,
    MailReply,
    Row,
    encode,
    group_key,
    group_secret,
    mail_key,
    record_key,
)
from huahuo.mailcheck.roster.decider import RosterCommand
from huahuo.mailcheck.roster.state import Roster

ROSTER: Final = "roster"
_PARTS_TIMEOUT_S: Final = 120.0
"""For all parts: between two of them it may wait up to 5 s for others (`Fairness.paid`)."""
_PART_CHARS: Final = 64
"""The name of a part is as long, so its id is longer than any that a client may send."""
_ROWS_A_STEP: Final = 4_096


class Rosters:
    """See the module."""

    def __init__(self, mailboxes: Mailboxes, executor: Executor) -> None:
        self.mailboxes = mailboxes
        self.executor = executor
        self._log = mailboxes.log
        self._directory = mailboxes.directory

    def hold(self, user_id: UserId, size_bytes: int) -> AbstractContextManager[None]:
        """Count this memory to a roster during the block."""
        return self._directory.hold(ROSTER, user_id, size_bytes)

    async def ask[T](self, user_id: UserId, look: Callable[[int, Roster], T]) -> T:
        """What `look` finds in a roster, with the number of its last event."""
        found: T = await self._directory.ask(ROSTER, user_id, Query(look))
        return found

    async def rows(self, user_id: UserId) -> tuple[Row, ...]:
        """All rows of now, by id."""
        return await self.ask(user_id, lambda _seq, state: state.cut())

    async def row(self, user_id: UserId, email_id: int) -> Row | None:
        """A mailbox of this user."""
        return await self.ask(user_id, lambda _seq, state: state.rows.get(email_id))

    async def group_proxy(self, user_id: UserId, email_id: int) -> Secret | None:
        """The proxy of the group in which this mailbox is now, None if there is none.

        A roster is asked only if its user has given any group a proxy: most have not.
        """
        part = str(user_id)
        if not await self._log.rows(GROUP_PROXIES, part, limit=1):
            return None
        row = await self.row(user_id, email_id)
        group = "" if row is None else row.group or ""
        if not group or await self._log.row(GROUP_PROXIES, part, group_key(group)) is None:
            return None
        return await self._log.secret(roster_stream(user_id), group_secret(group))

    async def mail(self, user_id: UserId, mail_id: int) -> MailRecord | None:
        """A mail of this user. Records outlive their mailbox for a while; the roster says what there is."""
        place = await place_of(self._log, mail_id)
        if place is None or place.user_id != user_id or await self.row(user_id, place.email_id) is None:
            return None
        return await _record_at(self._log, mail_id, place)

    async def admitted(
        self, user_id: UserId, chosen: Filter | None, named: Container[int] | None = None
    ) -> list[Row]:
        """The rows of now that a filter admits, of those named. A long list does not block the loop."""
        rows = await self.rows(user_id)
        admits = None if chosen is None else chosen.admits()
        if admits is None and named is None:
            return list(rows)
        found: list[Row] = []
        for some in batched(rows, _ROWS_A_STEP):
            found += [
                row for row in some if (named is None or row.id in named) and (admits is None or admits(row))
            ]
            await asyncio.sleep(0)
        return found

    async def tell(self, user_id: UserId, command: RosterCommand, origin: Origin) -> Answer[MailReply]:
        """Let a roster decide."""
        answer: Answer[MailReply] = await self._directory.ask(ROSTER, user_id, Execute(command, origin))
        return answer

    async def execute(self, call: Call[Any], command: RosterCommand) -> Reply:
        """The reply to a call that is one command."""
        answer = await self.tell(call.principal.user_id, command, call.origin)
        return from_entity(b"" if answer.reply is None else encode(answer.reply), answer, call)

    async def recorded(self, call: Call[Any]) -> Reply | None:
        """The reply to a call in parts, if it was answered before: the gate records it."""
        known = None if call.key is None else await self._log.command(call.key)
        if known is None:
            return None
        if known.fingerprint != call.fingerprint:
            raise CommandMismatch("the command id was used with another content")
        return from_record(known)

    async def execute_parts(
        self, call: Call[Any], kind: str, commands: Iterable[tuple[int, RosterCommand]]
    ) -> tuple[Answer[MailReply], ...]:
        """Decide and commit numbered commands one by one. Each keeps its answer under an id of its own."""
        parts = ExecuteParts(
            tuple(Execute(command, _part(call.origin, kind, number)) for number, command in commands)
        )
        answers: tuple[Answer[MailReply], ...] = await self._directory.ask(
            ROSTER, call.principal.user_id, parts, timeout_s=_PARTS_TIMEOUT_S
        )
        return answers


class Answering:
    """What answers actions: with the rosters, the mailboxes, and what both are kept in."""

    def __init__(self, rosters: Rosters) -> None:
        self._rosters = rosters
        self._executor = rosters.executor
        self._mailboxes = rosters.mailboxes
        self._log = rosters.mailboxes.log
        self._ambient = rosters.mailboxes.ambient


async def place_of(log: Log, mail_id: int) -> MailPlace | None:
    """Whose a mail is, and where its record is. None if there is no such mail."""
    found = None if mail_id < 0 else await log.row(MAIL, "", mail_key(mail_id))
    return None if found is None else msgspec.json.decode(found, type=MailPlace)


async def _record_at(log: Log, mail_id: int, place: MailPlace) -> MailRecord | None:
    row = await log.row(MAILS, str(place.email_id), record_key(place.received_ms, mail_id))
    return None if row is None else msgspec.json.decode(row, type=MailRecord)


async def record_of(log: Log, mail_id: int) -> tuple[MailRecord, MailPlace] | None:
    """The record of a mail, and whose it is. None if there is none."""
    place = await place_of(log, mail_id)
    record = None if place is None else await _record_at(log, mail_id, place)
    return None if place is None or record is None else (record, place)


def _part(origin: Origin, kind: str, number: int) -> Origin:
    if origin.key is None:
        return origin
    return replace(origin, key=replace(origin.key, id=f"{kind:.<{_PART_CHARS}}/{number}/{origin.key.id}"))
