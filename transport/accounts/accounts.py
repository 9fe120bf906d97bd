"""`Accounts`: judges tokens by the shared secret, by an issuer's key set, and by the application, in turn.

A token of the service's own secret is judged by it alone, good or expired. Any other goes to the key set if
it is signed by one of its algorithms, and else, or where there is no key set, to the application.

The application's own functions say who a token's user is (`authenticate`), and what a user may
(`authorize`). Either may be a plain function or a coroutine function. A plain one runs on the service's
loop, so it must not wait; one that asks a database is a coroutine function. What takes longer than the
deadline is given up.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final, Literal

import msgspec
import structlog

from huahuo.actors.domain.storable import is_own_stream
from huahuo.actors.domain.structs import Refused
from huahuo.actors.plugins.calls import USER_ID_RULE, Principal, user_id_of
from huahuo.transport.access.claims import (
    CONTROL,
    GROUP_NAME,
    GROUPS_MAX,
    ISSUED_BYTES_MAX,
    NAME_CHARS_MAX,
    NEVER_MS,
    ClaimNames,
    Compact,
    IssueMs,
    TokenError,
    issued_claims,
    parts_of,
    verified_of,
)
from huahuo.transport.access.rights import NOT_NOW, AuthFailure, Verdict, Verified
from huahuo.transport.access.tokens import Authenticator
from huahuo.transport.accounts.issuer_keys import ALGORITHMS, KeyServer, KeySet, UnknownKey
from huahuo.transport.protocol.codes import AuthCode

DEADLINE_S: Final = 5.0
AT_ONCE_MAX: Final = 256
"""Tokens that the application judges at one time. The others wait, within the same deadline."""

type Found = Principal | Refused | None
type Authenticate = Callable[[str], Found | Awaitable[Found]]
type Right = Literal["read", "publish"]
type Authorize = Callable[[Principal, str, Right], bool | Awaitable[bool]]

_RIGHTS: Final = (
    "rights are those of API keys, so leave them out; for a program that may do less than its user, make a"
    " key (`huahuo key add`, or the command `add_key`); for streams that a user may not read, `authorize=`"
)


class AskApplication:
    """Asks `authenticate`. It never raises."""

    def __init__(
        self,
        authenticate: Authenticate,
        deadline_s: float = DEADLINE_S,
        asked_from: Callable[[int], IssueMs] | None = None,
    ) -> None:
        """`asked_from`: of when the users are for whom it vouches; None: of when it was asked."""
        self._authenticate = authenticate
        self._asked_from = asked_from or (lambda now_ms: lambda _user: now_ms)
        self._deadline_s = deadline_s
        self._room = asyncio.Semaphore(AT_ONCE_MAX)

    def verify(self, token: str, now_ms: int) -> Verdict | Awaitable[Verdict]:
        """The verdict; a coroutine if the application gives one."""
        of_ms = self._asked_from(now_ms)
        try:
            found = self._authenticate(token)
        except Refused as refused:
            found = refused
        except (Exception, SystemExit):  # noqa: BLE001  an application's function
            return _failed()
        if inspect.isawaitable(found):
            return self._awaited(found, now_ms, of_ms)
        return verdict_of(found, now_ms, of_ms)

    async def _awaited(self, pending: Awaitable[Found], now_ms: int, of_ms: IssueMs) -> Verdict:
        try:
            async with asyncio.timeout(self._deadline_s), self._room:
                found = await pending
        except Refused as refused:
            found = refused
        except TimeoutError:
            return AuthFailure(NOT_NOW, f"authenticate() did not answer within {self._deadline_s:g} s")
        except (Exception, SystemExit):  # noqa: BLE001  an application's function
            return _failed()
        finally:
            if inspect.iscoroutine(pending):
                pending.close()  # it may not have begun
        return verdict_of(found, now_ms, of_ms)


def verdict_of(found: object, now_ms: int, of_ms: IssueMs) -> Verdict:
    """What the application's answer means. `of_ms`: of when the user is for whom it vouches."""
    if found is None:
        return AuthFailure(AuthCode.TOKEN_INVALID, "authenticate() knows no user with this token")
    if isinstance(found, Refused):
        known = found.code in AuthCode.__members__.values()
        code = AuthCode(found.code) if known else AuthCode.TOKEN_INVALID
        return AuthFailure(code, f"authenticate() refused it: {found.code}: {found.message}")
    if not isinstance(found, Principal):
        what = type(found).__name__
        return AuthFailure(NOT_NOW, f"authenticate() returned {what}: return a Principal, a Refused or None")
    fault = _fault(msgspec.structs.asdict(found))
    if fault:
        return AuthFailure(NOT_NOW, f"authenticate() returned a Principal that cannot be: {fault}")
    user_id = user_id_of(found.user_id)
    assert user_id is not None, "else it is a fault"
    expires_at_ms = NEVER_MS if found.expires_at is None else _ms(found.expires_at)
    if expires_at_ms <= now_ms:
        return AuthFailure(AuthCode.TOKEN_EXPIRED, f"authenticate() says that user/{user_id} has expired")
    principal = Principal(
        user_id,
        found.username or str(found.user_id),
        is_admin=found.is_admin,
        groups=tuple(dict.fromkeys(found.groups)),
    )
    told_id = found.user_id if found.user_id != user_id else None
    # As issued now: the application vouches for the user at this moment, and a revocation ends what is open.
    return Verified(principal, expires_at_ms, iat_ms=of_ms(user_id), told_id=told_id)


def _fault(given: Mapping[str, object]) -> str:
    """Why a Principal with these fields cannot be. Nobody has checked their types."""
    if user_id_of(given["user_id"]) is None:
        return USER_ID_RULE
    username, groups, ends = given["username"], given["groups"], given["expires_at"]
    if not isinstance(username, str) or len(username) > NAME_CHARS_MAX:
        return f"a username is a text of at most {NAME_CHARS_MAX} characters"
    if CONTROL.search(username):
        return "a username has no control characters"
    if not _is_utf8(username):
        return "a username has half of a surrogate pair, which no UTF-8 text has"
    if not isinstance(given["is_admin"], bool):
        return "is_admin is True or False"
    if not isinstance(groups, tuple | list) or len(groups) > GROUPS_MAX:
        return f"groups is a tuple of at most {GROUPS_MAX} names"
    if not all(isinstance(name, str) and GROUP_NAME.fullmatch(name) for name in groups):
        return "the name of a group has 1 to 64 letters, digits or _ . -"
    if given["rights"] is not None:
        return _RIGHTS
    if (isinstance(ends, datetime) and ends.tzinfo is None) or not isinstance(
        ends, datetime | int | float | None
    ):
        return "expires_at is a datetime with a time zone, seconds since 1970, or None"
    return ""


def _is_utf8(text: str) -> bool:
    """Whether it can be written. A text that was read from JSON may have half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _ms(moment: datetime | float) -> int:
    seconds = moment.timestamp() if isinstance(moment, datetime) else moment
    return round(max(0.0, min(seconds, NEVER_MS / 1000)) * 1000)


def _failed() -> AuthFailure:
    _log.exception("authenticate_failed")
    return AuthFailure(NOT_NOW, "authenticate() raised an exception, which stands above this line")


class AskRights(msgspec.Struct, frozen=True):
    """Asks `authorize`. What cannot be judged is not allowed."""

    authorize: Authorize
    deadline_s: float = DEADLINE_S

    async def may_read(self, stream: str, who: Principal) -> bool:
        """See `MayRead`. Administrators may read every stream that can exist."""
        return is_own_stream(stream, ()) and (who.is_admin or await self.may(who, stream, "read"))

    async def may_publish(self, who: Principal, stream: str) -> bool:
        """Whether `who` may write this stream now."""
        return await self.may(who, stream, "publish")

    async def may(self, who: Principal, stream: str, right: Right) -> bool:
        """Whether `who` has this right now."""
        try:
            found: Any = self.authorize(who, stream, right)
            if inspect.isawaitable(found):
                async with asyncio.timeout(self.deadline_s):
                    found = await found
        except TimeoutError:
            _log.warning("authorize_too_slow", stream=stream, right=right, seconds=self.deadline_s)
            return False
        except (Exception, SystemExit):  # noqa: BLE001  an application's function
            _log.exception("authorize_failed", stream=stream, right=right)
            return False
        if not isinstance(found, bool):
            _log.error("authorize_is_no_answer", returned=type(found).__name__, wanted="True or False")
            return False
        return found


APPLICATION_TOKEN_CHARS_MAX = 8192

_log = structlog.get_logger(__name__)


class Issuer(msgspec.Struct, frozen=True):
    """Whose tokens the key set verifies. `name` and `audience` "": any."""

    keys: KeyServer
    names: ClaimNames
    name: str = ""
    audience: str = ""


class Accounts:
    """See the module. Implements `Verifier`."""

    def __init__(
        self,
        own: Authenticator,
        *,
        issuer: Issuer | None = None,
        application: AskApplication | None = None,
    ) -> None:
        self._own = own
        self._issuer = issuer
        self._application = application

    def verify(self, token: str, now_ms: int) -> Verdict | Awaitable[Verdict]:
        """See `Verifier`."""
        if not token:
            return AuthFailure(AuthCode.TOKEN_INVALID, "there is no token")
        own = self._own.verify(token, now_ms)
        if isinstance(own, Verified) or own.code != AuthCode.TOKEN_INVALID:
            return own
        try:
            parts = parts_of(token, ISSUED_BYTES_MAX)
        except TokenError as error:
            return self._ask(token, now_ms) or AuthFailure(AuthCode.TOKEN_INVALID, str(error))
        if self._is_own(parts):  # its claims are at fault, and nobody else's business
            return own
        if self._issuer is not None and parts.header.algorithm in ALGORITHMS:
            return self._issued(parts, self._issuer, now_ms)
        return self._ask(token, now_ms) or own

    def still_good(self, verified: Verified, now_ms: int) -> AuthFailure | None:
        """See `Verifier`."""
        return self._own.still_good(verified, now_ms)

    async def close(self) -> None:
        """Give up what is under way."""
        if self._issuer is not None:
            await self._issuer.keys.close()

    def _is_own(self, parts: Compact) -> bool:
        try:
            return self._own.signer.signed(parts)
        except TokenError:
            return False

    def _ask(self, token: str, now_ms: int) -> Verdict | Awaitable[Verdict] | None:
        """What the application says. None: it is not asked."""
        if self._application is None:
            return None
        if len(token) > APPLICATION_TOKEN_CHARS_MAX:
            why = f"it is longer than {APPLICATION_TOKEN_CHARS_MAX} characters"
            return AuthFailure(AuthCode.TOKEN_INVALID, why)
        return self._application.verify(token, now_ms)

    # Tokens of the key set ----------------------------------------------------------------------------

    def _issued(self, parts: Compact, issuer: Issuer, now_ms: int) -> Verdict | Awaitable[Verdict]:
        keys = issuer.keys.known()
        if keys is None:
            return self._after_fetch(parts, issuer, now_ms)
        try:
            return self._judged(keys, parts, issuer, now_ms)
        except UnknownKey:
            return self._with_newer(parts, issuer, now_ms)

    async def _after_fetch(self, parts: Compact, issuer: Issuer, now_ms: int) -> Verdict:
        return self._last(await issuer.keys.fetched(), parts, issuer, now_ms)

    async def _with_newer(self, parts: Compact, issuer: Issuer, now_ms: int) -> Verdict:
        return self._last(await issuer.keys.newer(), parts, issuer, now_ms)

    def _last(self, keys: KeySet | None, parts: Compact, issuer: Issuer, now_ms: int) -> Verdict:
        """The verdict with the newest keys that there are."""
        if keys is None:
            return AuthFailure(NOT_NOW, "there are no keys: the address in jwks_url did not give any yet")
        try:
            return self._judged(keys, parts, issuer, now_ms)
        except UnknownKey as error:
            if issuer.keys.failed:
                return AuthFailure(NOT_NOW, f"{error}, and the address in jwks_url does not answer")
            return AuthFailure(AuthCode.TOKEN_INVALID, str(error))

    def _judged(self, keys: KeySet, parts: Compact, issuer: Issuer, now_ms: int) -> Verdict:
        """Raises UnknownKey."""
        try:
            claims = issued_claims(
                keys.payload(parts), issuer.names, issuer=issuer.name, audience=issuer.audience
            )
            verified = verified_of(claims, partial(self._own.newest_ms, now_ms=now_ms))
        except UnknownKey:
            raise
        except TokenError as error:
            return AuthFailure(AuthCode.TOKEN_INVALID, str(error))
        return self._own.still_good(verified, now_ms) or verified
