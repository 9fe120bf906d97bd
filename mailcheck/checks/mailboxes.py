"""The mailbox entities, for code that reports on checks.

Storing what a reading found: which mails are known already is looked up, and the mailbox decides.

Mails that were taken over from another service are found by what it keeps: subject, sender and date.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from email.utils import parseaddr
from typing import Final

import msgspec

from huahuo.actors.entities.decider import Answer, Origin
from huahuo.actors.entities.directory import Directory
from huahuo.actors.entities.entity import Execute, Query
from huahuo.actors.plugins.calls import UserId
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.port import Log
from huahuo.mailcheck import records
from huahuo.mailcheck.events import IMPORTED, FetchedMail
from huahuo.mailcheck.mailbox import decider
from huahuo.mailcheck.mailbox.state import Mailbox

MAILBOX: Final = "mailbox"
SERVICE: Final = "service"


class Standing(msgspec.Struct, frozen=True):
    """How a mailbox stands. `plan` is None if it does not exist."""

    plan: decider.Plan | None
    failed: bool
    refused: bool
    user_id: UserId


class Reached(msgspec.Struct, frozen=True):
    """Where a mailbox is now, the generation of its grant, and the number of its last event."""

    place: tuple[str, str, int, bool]
    grant: int
    seq: int


def login_place_of(at: decider.Plan | Mailbox) -> tuple[str, str, int, bool]:
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


class OneAtATime:
    """Pieces of work of one user, or of one mailbox, go one after the other. Nothing is kept of the idle."""

    def __init__(self) -> None:
        self._turns: dict[UserId, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def of(self, whose: UserId) -> AsyncIterator[None]:
        """Wait until no earlier piece of work of the same is left, and hold its place during the block."""
        lock, count = self._turns.get(whose, (asyncio.Lock(), 0))
        self._turns[whose] = lock, count + 1
        try:
            async with lock:
                yield
        finally:
            _, count = self._turns.pop(whose)
            if count > 1:
                self._turns[whose] = lock, count - 1


_PAGE_ROWS: Final = 500
_SEVERAL: Final = 3
"""From this number of mails on, one question comes first: whether any mail of the mailbox is known."""
_AROUND_MAX: Final = 2_000
"""Records of a day at which one mail looks."""
_ZONES_MS: Final = 14 * 3_600_000
_ZONE_STEP_MS: Final = 900_000
_SECOND_MS: Final = 1_000


class Mailboxes:
    """See the module. Also what all readings know of mails: which are known, and where they were met."""

    def __init__(self, log: Log, directory: Directory, ambient: Ambient) -> None:
        self.log = log
        self.directory = directory
        self.ambient = ambient
        self.pauses = Pauses()
        self.storing = OneAtATime().of
        """What is looked up in the block holds until what follows from it is stored.

        A check and the watcher of a mailbox may read at the same time; they store in turns.
        """

    async def tell(
        self,
        email_id: int,
        command: decider.MailboxCommand,
        *,
        principal: str = SERVICE,
        cause: int = 0,
        command_id: str = "",
    ) -> Answer[decider.MailboxReply]:
        """Let a mailbox decide, and return when its decision is durable.

        `command_id`: the place in a trace of the run that says it, stored with the events.

        Raises:
            EntityError: nothing was done. AskTimeout, Unavailable: the outcome is unknown.
        """
        await self.pauses.passed(email_id)
        origin = Origin(principal=principal, command_id=command_id, cause=cause)
        answer: Answer[decider.MailboxReply] = await self.directory.ask(
            MAILBOX, email_id, Execute(command, origin)
        )
        return answer

    async def ask[T](self, email_id: int, look: Callable[[int, Mailbox], T]) -> T:
        """What `look` finds in a mailbox, with the number of its last event.

        Raises:
            EntityError, AskTimeout, Unavailable: the mailbox could not be asked.
        """
        found: T = await self.directory.ask(MAILBOX, email_id, Query(look))
        return found

    async def plan_of(self, email_id: int) -> decider.Plan | None:
        """How a mailbox is reached, None if there is none. Raises as `ask`."""
        return (await self.standing(email_id)).plan

    async def standing(self, email_id: int) -> Standing:
        """How a mailbox stands. Raises as `ask`."""

        def look(_seq: int, state: Mailbox) -> Standing:
            plan = decider.plan_of(state) if state.exists else None
            return Standing(plan, state.failed, state.refused, state.user_id)

        return await self.ask(email_id, look)

    async def reached(self, email_id: int) -> Reached:
        """Where a mailbox is. Raises as `ask`."""
        return await self.ask(email_id, lambda seq, state: Reached(login_place_of(state), state.grant, seq))

    async def cause_of(self, email_id: int, check_id: int) -> int:
        """The position of the event that asked for this check, 0 if it is not the open one. Raises as `ask`.

        It comes from the log, not from the caller that started the check, so it is known after a restart.
        """

        def look(_seq: int, state: Mailbox) -> int:
            check = state.check
            return check.cause if check is not None and check.check_id == check_id else 0

        return await self.ask(email_id, look)

    @asynccontextmanager
    async def fresh(
        self, email_id: int, plan: decider.Plan, batch: Sequence[FetchedMail]
    ) -> AsyncIterator[tuple[tuple[FetchedMail, ...], Mapping[bytes, decider.Equals]]]:
        """The mails without those of Graph that are known by their ids there, and what equals them.

        It holds during the block, see `storing`.
        """
        async with self.storing(email_id):
            mails = [
                mail
                for mail in batch
                if not mail.remote_id
                or await self.log.row(records.GRAPH, str(email_id), records.remote_key(mail.remote_id))
                is None
            ]
            yield tuple(mails), await self.equal_to(email_id, plan, mails)

    async def equal_to(
        self, email_id: int, plan: decider.Plan, batch: Sequence[FetchedMail]
    ) -> Mapping[bytes, decider.Equals]:
        """For each mail the known ones that equal it, by the digest of both."""
        found: dict[bytes, decider.Equals] = {}
        taken: set[int] = set()
        looks = len(batch) < _SEVERAL or bool(await self.log.rows(records.KNOWN, str(email_id), limit=1))
        for mail in batch:
            digest = decider.digest_of(mail)
            if digest not in found:
                row = await self.log.row(records.KNOWN, str(email_id), digest) if looks else None
                found[digest] = await self._equals(email_id, plan, mail, row)
            if IMPORTED in plan.cursors and mail.folder != IMPORTED and not found[digest].mails:
                found[digest] = await self._imported(email_id, plan, mail, taken)
        return found

    async def _imported(
        self, email_id: int, plan: decider.Plan, mail: FetchedMail, taken: set[int]
    ) -> decider.Equals:
        """The mail as it was taken over, each for one mail only; `taken` are those of others.

        The other service kept some dates in the zone of the sender, and did not say which.
        """
        moment_ms = records.sent_ms(mail, self.ambient.now_ms())
        before = records.record_key(moment_ms + _ZONES_MS + 1, 0)
        rows = await self.log.rows(records.MAILS, str(email_id), before=before, limit=_AROUND_MAX)
        best: tuple[int, records.MailRecord] | None = None
        for key, value in rows:
            apart_ms = abs(records.received_of(key) - moment_ms)
            if records.received_of(key) < moment_ms - _ZONES_MS:
                break
            record = msgspec.json.decode(value, type=records.MailRecord)
            if record.folder != IMPORTED or record.mail_id in taken or apart_ms % _ZONE_STEP_MS > _SECOND_MS:
                continue
            if _looks(record.subject, record.sender) == _looks(mail.subject, mail.sender) and (
                best is None or apart_ms < best[0]
            ):
                best = apart_ms, record
        if best is None:
            return decider.Equals()
        record = best[1]
        taken.add(record.mail_id)
        place = decider.place_of(plan.server, IMPORTED, plan.cursors[IMPORTED].uidvalidity)
        at_ms = round(datetime.fromisoformat(record.received_time).timestamp() * 1000)
        return decider.Equals((decider.Known(record.mail_id, at_ms, (place,)),), (record,))

    async def _equals(
        self, email_id: int, plan: decider.Plan, mail: FetchedMail, row: bytes | None
    ) -> decider.Equals:
        place = decider.place_of(plan.server, mail.folder, mail.uidvalidity)
        mails = () if row is None else decider.decoded(row)
        there: list[records.MailRecord] = []
        for known in mails:
            if place not in known.places:
                key = records.record_key(known.received_ms, known.mail_id)
                value = await self.log.row(records.MAILS, str(email_id), key)
                if value is not None:
                    there.append(msgspec.json.decode(value, type=records.MailRecord))
        return decider.Equals(mails, tuple(there))


async def every_row(log: Log, table: str, part: str = "") -> AsyncIterator[tuple[bytes, bytes]]:
    """All (key, value) rows of a part, newest first, read page by page. Raises as `Log.rows`."""
    before: bytes | None = None
    while rows := await log.rows(table, part, before=before, limit=_PAGE_ROWS):
        for row in rows:
            yield row
        before = rows[-1][0]


def _looks(subject: str, sender: str) -> tuple[str, str]:
    """What a reader sees, however it was cut and spaced."""
    address = parseaddr(sender)[1] or sender
    shown = records.clean(subject, records.SUBJECT_CHARS_MAX)
    return " ".join(shown.split()).casefold(), address.strip().casefold()
