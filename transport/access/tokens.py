"""Verifies and mints sign-in tokens (PROTOCOL 3.1). Pure: the time is an argument.

`signed_token` checks the signature. Claims, times and revocations are checked here, against the server's own
clock.
"""

import math
import re
from collections.abc import Sequence

import msgspec

from huahuo.actors.plugins.principal import Principal, user_id_of
from huahuo.transport.access.revocations import Revocations
from huahuo.transport.access.signed_token import Signer, TokenError
from huahuo.transport.access.verified import AuthFailure, Verified
from huahuo.transport.protocol.codes import AuthCode

GROUPS_MAX = 128
NAME_CHARS_MAX = 256
JTI_CHARS_MAX = 128

GROUP_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")

_EXP_MAX_S = 253_402_300_799  # 9999-12-31T23:59:59Z, the last moment that RFC 3339 can write
_IAT_SKEW_MS = 5_000  # an issuer's clock may be ahead by at most this

_SAY = {
    AuthCode.TOKEN_EXPIRED: "认证令牌已过期，请获取新的令牌后重新连接",
    AuthCode.TOKEN_INVALID: "无效的认证令牌，请重新登录",
    AuthCode.TOKEN_REVOKED: "认证令牌已被吊销，请重新登录",
}


class _Claims(msgspec.Struct):
    exp: int | float
    user_id: int | str | None = None
    sub: object = None
    username: str | None = None
    is_admin: bool | int = False
    groups: tuple[str, ...] = ()
    iat: int | float | None = None
    auth_time: int | float | None = None
    nbf: int | float | None = None
    jti: str = ""


_claims = msgspec.json.Decoder(_Claims)


class Authenticator:
    """Verifies and mints tokens with one secret. `previous` secrets still verify, for a rotation.

    Raises:
        ValueError: a secret is shorter than 32 bytes, or is half of a key pair.
    """

    def __init__(
        self, secret: bytes, *, previous: Sequence[bytes] = (), revocations: Revocations | None = None
    ) -> None:
        self._signer = Signer(secret, previous)
        self.revocations = revocations if revocations is not None else Revocations()

    def __repr__(self) -> str:
        return f"Authenticator({self._signer!r})"

    def verify(self, token: str, now_ms: int) -> Verified | AuthFailure:
        """The user of a token that is valid now, or the reason why it is not."""
        try:
            verified = _checked(_claims_of(self._signer.payload(token)), now_ms)
        except TokenError as error:
            return _failure(AuthCode.TOKEN_INVALID, str(error))
        who = verified.principal.name
        if verified.expires_at_ms <= now_ms:
            return _failure(AuthCode.TOKEN_EXPIRED, f"the token of {who} expired")
        if self.revocations.covers(verified.principal.user_id, verified.jti, verified.iat_ms):
            return _failure(AuthCode.TOKEN_REVOKED, f"the token of {who} was revoked")
        return verified

    def mint(self, principal: Principal, *, now_ms: int, ttl_s: float, jti: str) -> str:
        """A token for `principal`, good for `ttl_s` seconds.

        `iat` has milliseconds, so that a token minted right after a revocation is newer than it.
        """
        now_s = now_ms / 1000
        claims: dict[str, object] = {
            "user_id": principal.user_id,
            "username": principal.username,
            "is_admin": principal.is_admin,
            "groups": principal.groups,
            "iat": now_s,
            "exp": now_s + ttl_s,
            "jti": jti,
        }
        if principal.signed_in_ms:
            claims["auth_time"] = principal.signed_in_ms / 1000
        return self._signer.sign(msgspec.json.encode(claims))


def _failure(code: AuthCode, reason: str) -> AuthFailure:
    return AuthFailure(code, _SAY[code], reason)


def _claims_of(payload: bytes) -> _Claims:
    """Raises TokenError."""
    try:
        return _claims.decode(payload)
    except msgspec.ValidationError as error:  # names the claim and the types, never a value
        raise TokenError(f"its claims do not fit: {error}") from None
    except (ValueError, RecursionError):
        raise TokenError("its claims are not JSON") from None


def _checked(claims: _Claims, now_ms: int) -> Verified:
    """The verified token, if every claim is within its bounds and `nbf` has passed. Raises TokenError."""
    told = claims.sub if claims.user_id is None else claims.user_id
    if told is None:
        raise TokenError("its claims do not fit: there is neither user_id nor sub")
    user_id = user_id_of(told)
    username = str(told) if claims.username is None and claims.user_id is None else claims.username
    if username is None:
        raise TokenError("its claims do not fit: there is no username")
    if not (
        user_id is not None
        and 0 < len(username) <= NAME_CHARS_MAX
        and claims.is_admin in (0, 1)
        and len(claims.groups) <= GROUPS_MAX
        and all(GROUP_NAME.fullmatch(name) for name in claims.groups)
        and len(claims.jti) <= JTI_CHARS_MAX
    ):
        raise TokenError("user_id, username, is_admin, groups or jti is out of bounds")
    iat_ms = None if claims.iat is None else _ms(claims.iat, "iat")
    if iat_ms is not None and iat_ms > now_ms + _IAT_SKEW_MS:
        raise TokenError("iat lies in the future: compare the clocks of the issuer and of this machine")
    if claims.nbf is not None and _ms(claims.nbf, "nbf") > now_ms:
        raise TokenError("nbf lies in the future")
    principal = Principal(
        user_id=user_id,
        username=username,
        is_admin=bool(claims.is_admin),
        groups=tuple(dict.fromkeys(claims.groups)),
        # A token that says nothing of the sign-in was made for one.
        signed_in_ms=(iat_ms or 0) if claims.auth_time is None else _ms(claims.auth_time, "auth_time"),
    )
    told_id = told if isinstance(told, int | str) and told != user_id else None
    return Verified(principal, _ms(claims.exp, "exp"), claims.jti, iat_ms, told_id)


def _ms(seconds: float, claim: str) -> int:
    """A JWT's NumericDate in milliseconds. Raises TokenError if it is not a valid moment."""
    if not math.isfinite(seconds) or not 0 <= seconds <= _EXP_MAX_S:
        raise TokenError(f"{claim} is out of bounds")
    return round(seconds * 1000)
