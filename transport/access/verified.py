"""The result of checking a sign-in token: verified, or refused with a code. Pure types."""

from typing import Protocol

import msgspec

from huahuo.actors.plugins.principal import Principal, UserId


class Verified(msgspec.Struct, frozen=True):
    """A valid token: its user, its expiry (ms since 1970), and the claims that revocations match.

    `jti` is "" and `iat_ms` is None if the token has none.
    """

    principal: Principal
    expires_at_ms: int
    jti: str = ""
    iat_ms: int | None = None
    told_id: UserId | None = None
    """The user's id as the token spells it, if otherwise than the principal's: clients get it back so."""


class AuthFailure(msgspec.Struct, frozen=True):
    """An invalid token. `code`: `token_expired`, `token_invalid` or `token_revoked`.

    `reason` is for the operator's log; the client is told the code only.
    """

    code: str
    message: str
    reason: str = ""


class Verifier(Protocol):
    """Checks tokens. Pure and synchronous."""

    def verify(self, token: str, now_ms: int) -> Verified | AuthFailure:
        """Check `token`. Never raises, whatever it is."""
        ...
