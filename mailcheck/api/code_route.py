"""`GET /mailboxes/<address>/code?wait=30`: the newest verification code of a mailbox, for scripts.

A code that is there and young is the answer. Otherwise the mailbox is checked, again and again, until a code
comes or the time is over (204).
"""

import contextlib
import re
from typing import Any, Final

import msgspec

from huahuo.actors.entities.decider import Origin
from huahuo.actors.entities.directory import Directory
from huahuo.actors.entities.entity import Execute, Query
from huahuo.actors.plugins.http import HttpAnswer, HttpRefused, HttpRequest, HttpRoute
from huahuo.actors.plugins.principal import Principal, UserId
from huahuo.eventstore.ambient import Ambient, rfc3339
from huahuo.eventstore.deadline import Deadline
from huahuo.eventstore.port import Log
from huahuo.mailcheck.api.arrivals import Arrival, Arrivals
from huahuo.mailcheck.api.handlers import ROSTER
from huahuo.mailcheck.events import EmailStatusUpdate
from huahuo.mailcheck.roster.commands import CheckEmails
from huahuo.mailcheck.roster.state import Roster
from huahuo.mailcheck.streams import user_stream
from huahuo.mailcheck.tables.records import MAILS, MailRecord, received_of
from huahuo.mailcheck.words import zh

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
_FOR_GOOD: Final = "need_reauth"


class CodeRoute:
    """See the module."""

    def __init__(self, log: Log, directory: Directory, ambient: Ambient) -> None:
        self._log = log
        self._directory = directory
        self._ambient = ambient
        self.arrivals = Arrivals(log)

    def routes(self) -> list[HttpRoute]:
        """The route."""
        return [HttpRoute(method="GET", path=PATH, handler=self._answer, waits=True)]

    async def _answer(self, request: HttpRequest) -> HttpAnswer:
        user = request.user
        if not any(map(user.may, _RIGHTS)):
            raise HttpRefused("forbidden", zh.NO_RIGHT_TO_CODES)
        wait_s = request.wait_s()
        max_age_s = _number(request, "max_age", MAX_AGE_S, most=_MAX_AGE_MOST_S)
        after = _number(request, "after", 0, most=10**16)
        address = request.names["address"]
        email_id = await self._mailbox(user.user_id, address)
        if email_id is None:
            raise HttpRefused("not_found", zh.NOT_YOUR_MAILBOX)
        oldest_ms = self._ambient.now_ms() - max_age_s * 1000
        oldest, stream = rfc3339(oldest_ms), user_stream(user.user_id)
        with self.arrivals.of(stream, email_id, oldest=oldest, after=after) as arrival:
            found = await self._newest(email_id, after, oldest_ms)
            if found is None and wait_s:
                found = await self._waited(user, email_id, arrival, wait_s)
        if found is None:
            return HttpAnswer(status=204)
        return HttpAnswer.json({"address": address, **found})

    async def _newest(self, email_id: int, after: int, oldest_ms: int) -> dict[str, Any] | None:
        for key, value in await self._log.rows(MAILS, str(email_id), limit=_LOOKED_AT):
            record = msgspec.json.decode(value, type=MailRecord)
            if received_of(key) < oldest_ms:
                return None
            if isinstance(record.code, str) and record.mail_id > after:
                return _shown(record)
        return None

    async def _waited(
        self, user: Principal, email_id: int, arrival: Arrival, wait_s: float
    ) -> dict[str, Any] | None:
        """The code that comes within `wait_s`. Raises HttpRefused: the mailbox cannot be signed in to."""
        try:
            async with Deadline(self._ambient, wait_s):
                while not arrival.has_mail:
                    arrival.ended = None
                    await self._check(user, email_id)
                    await arrival.news()
                    if not arrival.has_mail:
                        _refuse_for_good(arrival.ended)
                        await self._rest(arrival)
        except TimeoutError:
            return None
        return _shown(arrival.mail)

    async def _rest(self, arrival: Arrival) -> None:
        """Until the next check, or until somebody else's check finds a code."""
        with contextlib.suppress(TimeoutError):
            async with Deadline(self._ambient, CHECK_AGAIN_S):
                while not arrival.has_mail:
                    arrival.ended = None
                    await arrival.news()

    async def _check(self, user: Principal, email_id: int) -> None:
        """Have it checked, if it is not being checked."""
        command = Execute(CheckEmails((email_id,)), Origin(user.name))
        await self._directory.ask(ROSTER, user.user_id, command)

    async def _mailbox(self, user_id: UserId, address: str) -> int | None:
        def look(_seq: int, state: Roster) -> int | None:
            return state.addresses.get(address.lower())

        found: int | None = await self._directory.ask(ROSTER, user_id, Query(look))
        return found


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
