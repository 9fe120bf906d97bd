"""The result of checking a sign-in token: verified, or refused with a code. Pure types."""

from collections.abc import Awaitable
from typing import Final, Protocol

import msgspec

from huahuo.actors.plugins.principal import Principal, UserId

NOT_NOW: Final = "unavailable"
"""The code of a failure that says nothing about the token: who judges it did not answer."""


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
    """No user. `code`: `token_expired`, `token_invalid`, `token_revoked`, or `NOT_NOW`.

    `reason` is for the operator's log; the client is told the code only.
    """

    code: str
    reason: str = ""


type Verdict = Verified | AuthFailure
"""What became of a token."""


class Verifier(Protocol):
    """Judges tokens. Neither method raises, whatever the token is."""

    def verify(self, token: str, now_ms: int) -> Verdict | Awaitable[Verdict]:
        """Judge `token`: at once, or as soon as others have answered, within a few seconds."""
        ...

    def still_good(self, verified: Verified, now_ms: int) -> AuthFailure | None:
        """Why a token that was judged good is so no longer; None if it is. Nobody else is asked."""
        ...
