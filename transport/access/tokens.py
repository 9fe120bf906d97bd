"""Verifies and mints sign-in tokens of the shared secret (HS256 only, PROTOCOL 3.1). Pure.

`Signer` checks the signature with the library's algorithm object, and `claims` the claims; expiry and
revocations are checked here, against the server's own clock. What stands around the signature is read by
`claims`, because the library prepares the key and parses the header again for each token, and after a
restart thousands of tokens come within seconds.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jwt
import msgspec

from huahuo.actors.plugins.calls import Principal, UserId
from huahuo.transport.access.claims import (
    OWN_NAMES,
    SKEW_MS,
    ClaimNames,
    Compact,
    IssueMs,
    Latest,
    TokenError,
    decoded,
    own_claims,
    own_clock,
    parts_of,
    verified_of,
)
from huahuo.transport.access.revocations import Revocations
from huahuo.transport.access.rights import AuthFailure, Verified
from huahuo.transport.protocol.codes import AuthCode

SECRET_BYTES_MIN = 32

_ALGORITHM = "HS256"


class Signer:
    """Signs with one secret, and accepts what this one or one of `previous` signed.

    Raises:
        ValueError: a secret is shorter than 32 bytes, or is half of a key pair.
    """

    def __init__(self, secret: bytes, previous: Sequence[bytes]) -> None:
        self._jws = jwt.PyJWS(algorithms=[_ALGORITHM])
        self._algorithm = self._jws.get_algorithm_by_name(_ALGORITHM)
        self._secret = secret
        self._keys = tuple(self._key(one) for one in (secret, *previous))

    def __repr__(self) -> str:
        return f"Signer({len(self._keys)} secrets)"

    def sign(self, payload: bytes) -> str:
        """A token with this payload."""
        return self._jws.encode(payload, self._secret, algorithm=_ALGORITHM)

    def payload(self, token: str) -> bytes:
        """What the token says, if one of the secrets signed it. Raises TokenError."""
        parts = parts_of(token)
        if parts.header.algorithm != _ALGORITHM:
            raise TokenError(f"its algorithm is not {_ALGORITHM}")
        if not self.signed(parts):
            raise TokenError(
                "its signature fits no secret of this service: does the issuer use the same secret?"
            )
        return decoded(parts.payload)

    def signed(self, parts: Compact) -> bool:
        """Whether one of the secrets signed it. Raises TokenError: its signature is no base64url."""
        mac = decoded(parts.signature)
        if parts.header.algorithm != _ALGORITHM:
            return False
        return any(self._algorithm.verify(parts.signed, key, mac) for key in self._keys)

    def _key(self, secret: bytes) -> Any:
        if len(secret) < SECRET_BYTES_MIN:
            raise ValueError(
                f"the token secret has {len(secret)} bytes; it needs at least {SECRET_BYTES_MIN}. "
                "Take random ones, for example from `openssl rand -hex 32`, "
                "or leave it unset: one is then made at the first start."
            )
        try:
            return self._algorithm.prepare_key(secret)
        except jwt.InvalidKeyError:
            raise ValueError(
                "the token secret is a public key or a certificate, which others may know. "
                "Take random bytes, for example from `openssl rand -hex 32`, "
                "or leave it unset: some are then made at the first start."
            ) from None


class Authenticator:
    """Verifies and mints tokens with one secret. `previous` secrets still verify, for a rotation.

    `latest_ms`: see `claims.Latest`. When a token ends, this machine's clock says. `issued_ms`: of when are
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
