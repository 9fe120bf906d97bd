"""`POST /login`: a token for a name and a password (PROTOCOL 12). Who the users are, the service knows."""

from http import HTTPStatus
from typing import Annotated, Final, Protocol

import msgspec
from msgspec import Meta

from huahuo.transport.http.messages import Answer, json_answer
from huahuo.transport.http.problems import problem
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
