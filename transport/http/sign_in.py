"""Sign-ins over HTTP: a token for a name and a password (`POST /login`, PROTOCOL 12), and tickets. Pure.

Who the users are, the service knows. A ticket is a single-use sign-in for readers that can send no header
(`EventSource`). It stands for the token that it was made with, for 30 s. It may stand in a URL, where a
token must not: URLs are kept in logs and histories.
"""

from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Final, Protocol

import msgspec
from msgspec import Meta

from huahuo.transport.http.messages import Answer, json_answer, problem
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.words import http_zh, zh

BODY_BYTES_MAX: Final = 4_096


class Verdict(msgspec.Struct, frozen=True):
    """What became of a sign-in: a JSON object with the token, seconds to wait, or neither if it was wrong."""

    body: bytes = b""
    retry_s: float | None = None
    cookie: str = ""
    """The value of `Set-Cookie`, if the answer has one."""

    def __repr__(self) -> str:
        return f"Verdict('[sealed]', {self.retry_s})"


class SignIn(Protocol):
    """Verifies names and passwords."""

    async def sign_in(self, username: str, password: str, address: str, cookies: str) -> Verdict:
        """One sign-in of a client at this address. `cookies`: the header. It counts failures itself."""
        ...


class _Body(msgspec.Struct, frozen=True):
    username: Annotated[str, Meta(max_length=256)]
    password: Annotated[str, Meta(max_length=1024)]

    def __repr__(self) -> str:
        return "_Body('[sealed]')"


async def login(sign_in: SignIn, body: bytes, address: str, cookies: str) -> Answer:
    """Answer one sign-in. A wrong name and a wrong password get the same answer, which is never held back."""
    try:
        given = msgspec.json.decode(body, type=_Body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # The error's text could hold a piece of what was sent.
        return problem(ErrorCode.INVALID_FIELD, http_zh.NAME_AND_PASSWORD)
    verdict = await sign_in.sign_in(given.username, given.password, address, cookies)
    if verdict.retry_s is not None:
        return problem(ErrorCode.RATE_LIMITED, zh.TOO_MANY_SIGN_INS, retry_s=verdict.retry_s)
    if not verdict.body:
        return problem(ErrorCode.UNAUTHENTICATED, zh.WRONG_PASSWORD, status=HTTPStatus.UNAUTHORIZED)
    answer = json_answer(verdict.body)
    return answer.adding((("Set-Cookie", verdict.cookie),)) if verdict.cookie else answer


TICKET_S: Final = 30.0
TICKETS_MAX: Final = 10_000
_BYTES = 24


class Tickets:
    """The tickets that nobody has used. They are in memory only: after a restart, ask for another one."""

    def __init__(self, random_text: Callable[[int], str]) -> None:
        self._random_text = random_text
        self._tokens: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tokens)

    def make(self, token: str, now_s: float) -> str:
        """A ticket for this token. Beyond `TICKETS_MAX`, the oldest one becomes worthless."""
        self._expire(now_s)
        while len(self._tokens) >= TICKETS_MAX:
            self._tokens.popitem(last=False)
        ticket = self._random_text(_BYTES)
        self._tokens[ticket] = token, now_s + TICKET_S
        return ticket

    def use(self, ticket: str, now_s: float) -> str | None:
        """The token, once. None: there is no such ticket, it was used, or it is too old."""
        self._expire(now_s)
        found = self._tokens.pop(ticket, None)
        return None if found is None else found[0]

    def _expire(self, now_s: float) -> None:
        while self._tokens:
            ticket, (_, until_s) = next(iter(self._tokens.items()))
            if until_s > now_s:
                return
            del self._tokens[ticket]
