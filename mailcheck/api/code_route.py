"""`GET /mailboxes/<address>/code?wait=30`: the newest verification code of a mailbox, for scripts.

A code that is there and young is the answer. Otherwise the mailbox is checked, again and again, until a
code comes or the time is over (204). Of an alias of the mailbox only mails to it count; of the address of
a claim only mails that came after it.
"""

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final

import msgspec
from msgspec import UNSET

from huahuo.actors.entities.decider import Origin
from huahuo.actors.plugins.actions import HttpAnswer, HttpRefused, HttpRequest, HttpRoute
from huahuo.actors.plugins.calls import Principal
from huahuo.eventstore.ambient import rfc3339
from huahuo.eventstore.deadline import Deadline
from huahuo.eventstore.model import StoredEvent
from huahuo.mailcheck import zh
from huahuo.mailcheck.api.rosters import Answering, Rosters
from huahuo.mailcheck.events import STATUSES_TERMINAL, EmailStatusUpdate, MailReceived, read, user_stream
from huahuo.mailcheck.records import MAILS, MailRecord, Row, received_of
from huahuo.mailcheck.roster.decider import CheckEmails

type Tap = Callable[[Mapping[str, Sequence[StoredEvent]] | None], None]
"""Is called with the events of each commit by stream, or None if some were missed."""


class Arrival(msgspec.Struct):
    """What came so far. `changed` is set by each commit, and cleared by the reader that looks."""

    changed: asyncio.Event
    has_mail: bool = False
    """A mail with a code came, or one may have."""
    ended: EmailStatusUpdate | None = None

    async def news(self) -> None:
        """Return when a mail with a code came, or a check ended."""
        while not self.has_mail and self.ended is None:
            self.changed.clear()
            await self.changed.wait()

    def hear(self, events: Sequence[StoredEvent], email_id: int) -> None:
        """Take note of events of the mailbox's user."""
        for body in map(read, events):
            if isinstance(body, MailReceived) and body.email_id == email_id:
                self.has_mail = self.has_mail or isinstance(body.code, str)
            elif isinstance(body, EmailStatusUpdate) and body.email_id == email_id:
                self.ended = body if body.status in STATUSES_TERMINAL else self.ended
        self.changed.set()


PATH: Final = "/mailboxes/{address}/code"
MAX_AGE_S: Final = 600
"""Older codes are worth nothing, unless the request says otherwise."""
CHECK_AGAIN_S: Final = 5.0
"""Between the end of a check that found no code and the next one."""
_MAX_AGE_MOST_S: Final = 86_400
_LOOKED_AT: Final = 50
"""The newest mails among which a code is looked for."""
_NUMBER: Final = re.compile(r"[0-9]{1,16}")
_RIGHTS: Final = ("codes", "read")
type _Newest = Callable[[], Awaitable[dict[str, Any] | None]]
_FOR_GOOD: Final = "need_reauth"


class CodeRoute(Answering):
    """See the module."""

    def __init__(self, rosters: Rosters, tap: Callable[[Tap], Callable[[], None]]) -> None:
        """`tap`: has a function called from now on, and returns what ends that."""
        super().__init__(rosters)
        self._tap = tap

    def routes(self) -> list[HttpRoute]:
        """The route."""
        parameters = ("wait", "max_age", "after")
        return [HttpRoute(method="GET", path=PATH, handler=self._answer, waits=True, parameters=parameters)]

    async def _answer(self, request: HttpRequest) -> HttpAnswer:
        user = request.user
        if not any(map(user.may, _RIGHTS)):
            raise HttpRefused("forbidden", zh.NO_RIGHT_TO_CODES)
        wait_s = request.wait_s()
        max_age_s = _number(request, "max_age", MAX_AGE_S, most=_MAX_AGE_MOST_S)
        after = _number(request, "after", 0, most=10**16)
        address = request.names["address"]
        row = await self._rosters.ask(user.user_id, lambda _seq, state: state.of_address(address))
        if row is None:
            raise HttpRefused("not_found", zh.NOT_YOUR_MAILBOX)
        email_id, now_ms = row.id, self._ambient.now_ms()
        oldest_ms = max(now_ms - max_age_s * 1000, _claimed_ms(row, address, rfc3339(now_ms)))
        to = "" if address.lower() == row.email.lower() else address
        newest = partial(self._newest, email_id, after, oldest_ms, to)
        with self._heard(user_stream(user.user_id), email_id) as arrival:
            found = await newest()
            if found is None and wait_s:
                found = await self._waited(user, email_id, arrival, wait_s, newest)
        if found is None:
            return HttpAnswer(status=204)
        return HttpAnswer.json({"address": address, **found})

    @contextlib.contextmanager
    def _heard(self, stream: str, email_id: int) -> Iterator[Arrival]:
        """What comes from now on to a mailbox of the user of `stream`."""
        arrival = Arrival(asyncio.Event())

        def hear(by_stream: Mapping[str, Sequence[StoredEvent]] | None) -> None:
            arrival.has_mail = arrival.has_mail or by_stream is None
            if by_stream is None or stream in by_stream:
                arrival.hear((by_stream or {}).get(stream, ()), email_id)

        untap = self._tap(hear)
        try:
            yield arrival
        finally:
            untap()

    async def _newest(self, email_id: int, after: int, oldest_ms: int, to: str) -> dict[str, Any] | None:
        for key, value in await self._log.rows(MAILS, str(email_id), limit=_LOOKED_AT):
            record = msgspec.json.decode(value, type=MailRecord)
            if received_of(key) < oldest_ms:
                return None
            if isinstance(record.code, str) and record.mail_id > after and (not to or record.is_to(to)):
                return _shown(record)
        return None

    async def _waited(
        self, user: Principal, email_id: int, arrival: Arrival, wait_s: float, newest: _Newest
    ) -> dict[str, Any] | None:
        """The code that comes within `wait_s`. Raises HttpRefused: the mailbox cannot be signed in to."""
        found: dict[str, Any] | None = None
        try:
            async with Deadline(self._ambient, wait_s):
                while found is None:
                    arrival.ended = None
                    await self._check(user, email_id)
                    await arrival.news()
                    if not arrival.has_mail:
                        _refuse_for_good(arrival.ended)
                        await self._rest(arrival)
                    arrival.has_mail = False
                    found = await newest()
        except TimeoutError:
            return None
        return found

    async def _rest(self, arrival: Arrival) -> None:
        """Until the next check, or until somebody else's check finds a code."""
        with contextlib.suppress(TimeoutError):
            async with Deadline(self._ambient, CHECK_AGAIN_S):
                while not arrival.has_mail:
                    arrival.ended = None
                    await arrival.news()

    async def _check(self, user: Principal, email_id: int) -> None:
        """Have it checked, if it is not being checked."""
        await self._rosters.tell(user.user_id, CheckEmails((email_id,)), Origin(user.name))


def _claimed_ms(row: Row, address: str, now: str) -> int:
    """Since when somebody has the mailbox under this address, 0 if nobody has. Mails have whole seconds."""
    if row.claim is UNSET or not row.claimed(now) or row.claim.address.lower() != address.lower():
        return 0
    return int(datetime.fromisoformat(row.claim.since).timestamp()) * 1000


def _refuse_for_good(ended: EmailStatusUpdate | None) -> None:
    if ended is not None and ended.status == _FOR_GOOD:
        raise HttpRefused(_FOR_GOOD, ended.message)  # with what to do, see `servers.kinds`


def _shown(mail: Any) -> dict[str, Any]:
    names = ("code", "code_confidence", "email_id", "mail_id", "subject", "sender", "received_time")
    return {name: getattr(mail, name) for name in names}


def _number(request: HttpRequest, name: str, default: int, *, most: int) -> int:
    text = request.query.get(name) or str(default)
    if not _NUMBER.fullmatch(text) or int(text) > most:
        raise HttpRefused("invalid_field", zh.NUMBER_NEEDED.format(name, most))
    return int(text)
