"""What a sign-in token turns out to be: verified, or refused with a code. Pure types."""

from typing import Protocol

import msgspec

from huahuo.transport.access.principal import Principal


class Verified(msgspec.Struct, frozen=True):
    """A token that holds: who, until when (ms since 1970), and what a revocation matches.

    `jti` is "" and `iat_ms` None where the token has none.
    """

    principal: Principal
    expires_at_ms: int
    jti: str = ""
    iat_ms: int | None = None


class AuthFailure(msgspec.Struct, frozen=True):
    """A token that does not hold. `code`: `token_expired`, `token_invalid` or `token_revoked`.

    `reason` is for the operator's log; the client is told the code only.
    """

    code: str
    message: str
    reason: str = ""


class Verifier(Protocol):
    """Tells what a token is worth now. Pure and synchronous."""

    def verify(self, token: str, now_ms: int) -> Verified | AuthFailure:
        """Never raises, whatever `token` is."""
        ...
