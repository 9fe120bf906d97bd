"""`GET /mailboxes/<address>/code?wait=30`: the newest verification code of a mailbox, for scripts.

A code that is there and young is the answer. Otherwise the mailbox is checked, again and again, until a
code comes or the time is over (204). Of an alias of the mailbox only mails to it count; of the address of
a claim only mails that came after it.

What happens to a mailbox while a request waits: its next mail with a code, and how its checks end.

The log is listened to while anybody waits, and not otherwise.
"""

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
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
from huahuo.eventstore.port import Log
from huahuo.mailcheck import zh
from huahuo.mailcheck.api.rosters import Answering, Rosters
from huahuo.mailcheck.events import STATUSES_TERMINAL, EmailStatusUpdate, MailReceived, read, user_stream
from huahuo.mailcheck.records import MAILS, MailRecord, Row, received_of
from huahuo.mailcheck.roster.decider import CheckEmails


class Arrival(msgspec.Struct):
    """What came so far of mails behind `after` that were received since `oldest` (RFC 3339, UTC).

    `changed` is set by each event, and cleared by the reader that looks.
    """

    changed: asyncio.Event
    oldest: str
    after: int
    mail: MailReceived | None = None
    ended: EmailStatusUpdate | None = None

    @property
    def has_mail(self) -> bool:
        """Whether a mail with a code came."""
        return self.mail is not None

    async def news(self) -> None:
        """Return when a mail with a code came, or a check ended."""
        while self.mail is None and self.ended is None:
            self.changed.clear()
            await self.changed.wait()


class Arrivals:
    """What happens to a mailbox while a request waits: its next mail with a code, and how its checks end.

    All methods belong to the loop's thread.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._waiting: dict[tuple[str, int], list[Arrival]] = {}
        self._unlisten: Callable[[], None] | None = None

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return sum(map(len, self._waiting.values()))

    @contextmanager
    def of(self, stream: str, email_id: int, *, oldest: str, after: int) -> Iterator[Arrival]:
        """What comes from now on to a mailbox of the user of `stream`."""
        arrival, place = Arrival(asyncio.Event(), oldest, after), (stream, email_id)
        self._waiting.setdefault(place, []).append(arrival)
        if self._unlisten is None:
            self._unlisten = self._log.listen(self._heard)
        try:
            yield arrival
        finally:
            self._waiting[place].remove(arrival)
            if not self._waiting[place]:
                del self._waiting[place]
            if not self._waiting and self._unlisten is not None:
                self._unlisten()
                self._unlisten = None

    def _heard(self, events: Sequence[StoredEvent]) -> None:
        streams = {stream for stream, _ in self._waiting}
        for event in events:
            if event.stream not in streams:
                continue
            body = read(event)
            if isinstance(body, MailReceived) and isinstance(body.code, str):
                for arrival in self._waiting.get((event.stream, body.email_id), ()):
                    if body.received_time >= arrival.oldest and body.mail_id > arrival.after:
                        arrival.mail = body
                        arrival.changed.set()
            elif isinstance(body, EmailStatusUpdate) and body.status in STATUSES_TERMINAL:
                for arrival in self._waiting.get((event.stream, body.email_id), ()):
                    arrival.ended = body
                    arrival.changed.set()


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

    def __init__(self, rosters: Rosters) -> None:
        super().__init__(rosters)
        self.arrivals = Arrivals(self._log)

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
        oldest, stream = rfc3339(oldest_ms), user_stream(user.user_id)
        with self.arrivals.of(stream, email_id, oldest=oldest, after=after) as arrival:
            newest = partial(self._newest, email_id, after, oldest_ms, to)
            found = await newest()
            if found is None and wait_s:
                found = await self._waited(user, email_id, arrival, wait_s, newest)
        if found is None:
            return HttpAnswer(status=204)
        return HttpAnswer.json({"address": address, **found})

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
                    arrival.mail = None
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
