"""Verifies and mints sign-in tokens of the shared secret (PROTOCOL 3.1). Pure: the time is an argument.

`signed_token` checks the signature and `claims` the claims; expiry and revocations are checked here, against
the server's own clock.
"""

from collections.abc import Sequence
from functools import partial

import msgspec

from huahuo.actors.plugins.principal import Principal, UserId
from huahuo.transport.access.claims import OWN_NAMES, SKEW_MS, ClaimNames, own_claims, verified_of
from huahuo.transport.access.common_time import IssueMs, Latest, own_clock
from huahuo.transport.access.compact import TokenError
from huahuo.transport.access.revocations import Revocations
from huahuo.transport.access.signed_token import Signer
from huahuo.transport.access.verified import AuthFailure, Verified
from huahuo.transport.protocol.codes import AuthCode


class Authenticator:
    """Verifies and mints tokens with one secret. `previous` secrets still verify, for a rotation.

    `latest_ms`: see `common_time`. When a token ends, this machine's clock says. `issued_ms`: of when are
    tokens that are issued; None: of `latest_ms`.

    Raises:
        ValueError: a secret is shorter than 32 bytes, or is half of a key pair.
    """

    def __init__(
        self,
        secret: bytes,
        *,
        previous: Sequence[bytes] = (),
        revocations: Revocations | None = None,
        names: ClaimNames = OWN_NAMES,
        latest_ms: Latest = own_clock,
        issued_ms: Latest | None = None,
    ) -> None:
        self.signer = Signer(secret, previous)
        self.revocations = revocations if revocations is not None else Revocations()
        self._names = names
        self.latest_ms = latest_ms
        self._issued_ms = issued_ms or latest_ms

    def __repr__(self) -> str:
        return f"Authenticator({self.signer!r})"

    def verify(self, token: str, now_ms: int) -> Verified | AuthFailure:
        """The user of a token that is valid now, or the reason why it is not."""
        try:
            claims = own_claims(self.signer.payload(token), self._names)
            verified = verified_of(claims, partial(self.newest_ms, now_ms=now_ms))
        except TokenError as error:
            return AuthFailure(AuthCode.TOKEN_INVALID, str(error))
        return self.still_good(verified, now_ms) or verified

    def issue_ms(self, user_id: UserId, now_ms: int) -> int:
        """The issue time of a token that a user gets now: later than any revocation of older ones."""
        return max(self._issued_ms(now_ms), self.revocations.ended_ms(user_id) + 1)

    def newest_ms(self, user_id: UserId, now_ms: int) -> int:
        """How new a token of this user may be: what is newer lies in the future.

        The moment after the last revocation has no `SKEW_MS`: the user's next one may end no more than that.
        For the same reason a clock that is known to be ahead counts for a user who was never revoked only.
        """
        ended_ms, latest_ms = self.revocations.ended_ms(user_id), self.latest_ms(now_ms)
        if not ended_ms:
            return max(now_ms, latest_ms) + SKEW_MS
        return max(latest_ms + SKEW_MS, ended_ms + 1)

    def asked_from(self, now_ms: int) -> IssueMs:
        """As `issue_ms`, for a sign-in that began at `now_ms`: a revocation of its user ends it."""
        issued_ms, before = self._issued_ms(now_ms), self.revocations.count

        def issue_ms(user_id: UserId) -> int:
            if not self.revocations.has_ended(user_id, since=before):
                return self.issue_ms(user_id, now_ms)
            return min(issued_ms, self.revocations.ended_ms(user_id))

        return issue_ms

    def still_good(self, verified: Verified, now_ms: int) -> AuthFailure | None:
        """Why a token that was valid is so no longer; None if it is."""
        who = verified.principal.name
        if verified.expires_at_ms <= now_ms:
            return AuthFailure(AuthCode.TOKEN_EXPIRED, f"the token of {who} expired")
        if self.revocations.covers(verified.principal.user_id, verified.jti, verified.iat_ms):
            return AuthFailure(AuthCode.TOKEN_REVOKED, f"the token of {who} was revoked")
        return None

    def mint(
        self, principal: Principal, *, now_ms: int, ttl_s: float, jti: str, issue_ms: int | None = None
    ) -> str:
        """A token for `principal`, good for `ttl_s` seconds. `issue_ms`: of when it is; None: of now.

        `iat` has milliseconds, so that a token minted right after a revocation is newer than it.
        """
        now_s = now_ms / 1000
        claims: dict[str, object] = {
            "user_id": principal.user_id,
            "username": principal.username,
            "is_admin": principal.is_admin,
            "groups": principal.groups,
            "iat": now_s if issue_ms is None else issue_ms / 1000,
            "exp": now_s + ttl_s,
            "jti": jti,
        }
        if principal.signed_in_ms:
            claims["auth_time"] = principal.signed_in_ms / 1000
        return self.signer.sign(msgspec.json.encode(claims))
