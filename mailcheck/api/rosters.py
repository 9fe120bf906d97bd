"""What actions ask of the roster of a user: its rows, and commands, whole or in parts.

Exceptions of the log and the entities pass through.
"""

import asyncio
from collections.abc import Callable, Container, Iterable
from contextlib import AbstractContextManager
from itertools import batched
from typing import Any, Final

from msgspec.structs import replace

from huahuo.actors.entities.decider import Answer, Origin
from huahuo.actors.entities.directory import Directory
from huahuo.actors.entities.entity import Execute, ExecuteParts, Query
from huahuo.actors.plugins.calls import Call, Reply, UserId, from_entity, from_record
from huahuo.eventstore.errors import CommandMismatch
from huahuo.eventstore.port import Log
from huahuo.mailcheck.api.mailbox_list import Filter
from huahuo.mailcheck.records import MailReply, Row, encode
from huahuo.mailcheck.roster.commands import RosterCommand
from huahuo.mailcheck.roster.state import Roster

ROSTER: Final = "roster"
_PARTS_TIMEOUT_S: Final = 120.0
"""For all parts: between two of them it may wait up to 5 s for others (`Fairness.paid`)."""
_PART_CHARS: Final = 64
"""The name of a part is as long, so its id is longer than any that a client may send."""
_ROWS_A_STEP: Final = 4_096


class Rosters:
    """See the module."""

    def __init__(self, log: Log, directory: Directory) -> None:
        self._log = log
        self._directory = directory

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


def _part(origin: Origin, kind: str, number: int) -> Origin:
    if origin.key is None:
        return origin
    return replace(origin, key=replace(origin.key, id=f"{kind:.<{_PART_CHARS}}/{number}/{origin.key.id}"))
