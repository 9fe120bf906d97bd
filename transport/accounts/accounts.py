"""`Accounts`: judges tokens by the shared secret, by an issuer's key set, and by the application, in turn.

A token of the service's own secret is judged by it alone, good or expired. Any other goes to the key set if
it is signed by one of its algorithms, and else, or where there is no key set, to the application.
"""

from collections.abc import Awaitable
from functools import partial

import msgspec
import structlog

from huahuo.transport.access.claims import ClaimNames, issued_claims, verified_of
from huahuo.transport.access.compact import ISSUED_BYTES_MAX, Compact, TokenError, parts_of
from huahuo.transport.access.tokens import Authenticator
from huahuo.transport.access.verified import NOT_NOW, AuthFailure, Verdict, Verified
from huahuo.transport.accounts.application import AskApplication
from huahuo.transport.accounts.issuer_keys import ALGORITHMS, KeyServer, KeySet, UnknownKey
from huahuo.transport.protocol.codes import AuthCode

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
