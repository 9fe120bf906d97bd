"""The mailbox entities, for code that reports on checks."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import msgspec

from huahuo.actors.entities.decider import Answer, Origin
from huahuo.actors.entities.directory import Directory
from huahuo.actors.entities.entity import Execute, Query
from huahuo.actors.plugins.principal import UserId
from huahuo.mailcheck.mailbox.commands import MailboxCommand, MailboxReply, Plan
from huahuo.mailcheck.mailbox.decider import plan_of
from huahuo.mailcheck.mailbox.state import Mailbox

MAILBOX: Final = "mailbox"
SERVICE: Final = "service"


class Standing(msgspec.Struct, frozen=True):
    """How a mailbox stands. `plan` is None if it does not exist."""

    plan: Plan | None
    failed: bool
    refused: bool
    user_id: UserId


class Reached(msgspec.Struct, frozen=True):
    """Where a mailbox is now, the generation of its grant, and the number of its last event."""

    place: tuple[str, str, int, bool]
    grant: int
    seq: int


def place_of(at: Plan | Mailbox) -> tuple[str, str, int, bool]:
    """What its secrets were given for: type, server, port, and whether TLS comes first."""
    return at.mail_type, at.server, at.port, at.use_ssl


class Pauses:
    """Holds running checks back for a moment.

    A roster's append over many mailboxes expects the head of each. While it is being written, checks of these
    mailboxes must not append to them.
    """

    def __init__(self) -> None:
        self._held: dict[object, frozenset[int]] = {}
        self._released = asyncio.Event()

    @contextmanager
    def hold(self, email_ids: Sequence[int]) -> Iterator[None]:
        """Hold these mailboxes back while the block runs."""
        held = object()
        self._held[held] = frozenset(email_ids)  # once, not for each id: many commands may wait
        try:
            yield
        finally:
            del self._held[held]
            self._released.set()
            self._released = asyncio.Event()

    async def passed(self, email_id: int) -> None:
        """Return when this mailbox is not held back."""
        while any(email_id in ids for ids in self._held.values()):
            await self._released.wait()


class Mailboxes:
    """See the module."""

    def __init__(self, directory: Directory, pauses: Pauses) -> None:
        self._directory = directory
        self._pauses = pauses

    async def tell(
        self,
        email_id: int,
        command: MailboxCommand,
        *,
        principal: str = SERVICE,
        cause: int = 0,
        command_id: str = "",
    ) -> Answer[MailboxReply]:
        """Let a mailbox decide, and return when its decision is durable.

        `command_id`: the place in a trace of the run that says it, stored with the events.

        Raises:
            EntityError: nothing was done. AskTimeout, Unavailable: the outcome is unknown.
        """
        await self._pauses.passed(email_id)
        origin = Origin(principal=principal, command_id=command_id, cause=cause)
        answer: Answer[MailboxReply] = await self._directory.ask(MAILBOX, email_id, Execute(command, origin))
        return answer

    async def plan_of(self, email_id: int) -> Plan | None:
        """How a mailbox is reached, None if there is none. Raises as `cause_of`."""
        return (await self.standing(email_id)).plan

    async def standing(self, email_id: int) -> Standing:
        """How a mailbox stands. Raises as `cause_of`."""

        def look(_seq: int, state: Mailbox) -> Standing:
            plan = plan_of(state) if state.exists else None
            return Standing(plan, state.failed, state.refused, state.user_id)

        standing: Standing = await self._directory.ask(MAILBOX, email_id, Query(look))
        return standing

    async def reached(self, email_id: int) -> Reached:
        """Where a mailbox is. Raises as `cause_of`."""

        def look(seq: int, state: Mailbox) -> Reached:
            return Reached(place_of(state), state.grant, seq)

        found: Reached = await self._directory.ask(MAILBOX, email_id, Query(look))
        return found

    async def cause_of(self, email_id: int, check_id: int) -> int:
        """The position of the event that asked for this check, 0 if it is not the open one.

        It comes from the log, not from the caller that started the check, so it is known after a restart.

        Raises:
            EntityError, AskTimeout, Unavailable: the mailbox could not be asked.
        """

        def look(_seq: int, state: Mailbox) -> int:
            check = state.check
            return check.cause if check is not None and check.check_id == check_id else 0

        cause: int = await self._directory.ask(MAILBOX, email_id, Query(look))
        return cause
