"""Verifies and mints sign-in tokens (PROTOCOL 3.1). Pure: the time is an argument.

The library checks only the signature. Algorithm, claims, times and revocations are checked here, against the
server's own clock.

After a restart, thousands of tokens come within seconds, nearly all of one form: our own header and a valid
signature. The signature of such a token is compared here. Any other token is left to the library, so the
short way never accepts a token that the library would refuse.
"""

import binascii
import hmac
import math
import re
from collections.abc import Sequence

import jwt
import msgspec

from huahuo.actors.plugins.principal import Principal
from huahuo.transport.access.revocations import Revocations
from huahuo.transport.access.verified import AuthFailure, Verified
from huahuo.transport.protocol.codes import AuthCode

TOKEN_BYTES_MAX = 4096
SECRET_BYTES_MIN = 32
GROUPS_MAX = 128
NAME_CHARS_MAX = 256
JTI_CHARS_MAX = 128
ID_MAX = (1 << 53) - 1
"""A browser rounds larger ids."""

GROUP_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")

_ALGORITHM = "HS256"
_HEADERS = tuple(
    binascii.b2a_base64(header, newline=False).rstrip(b"=")
    for header in (b'{"alg":"HS256","typ":"JWT"}', b'{"typ":"JWT","alg":"HS256"}')
)
"""The header as most issuers write it. It has no `-` or `_`, so it is the same in both base64 alphabets."""
_BASE64 = bytes.maketrans(b"-_", b"+/")
_BASE64_URL = bytes.maketrans(b"+/", b"-_")
_EXP_MAX_S = 253_402_300_799  # 9999-12-31T23:59:59Z, the last moment that RFC 3339 can write
_IAT_SKEW_MS = 5_000  # an issuer's clock may be ahead by at most this

_SAY = {
    AuthCode.TOKEN_EXPIRED: "认证令牌已过期，请获取新的令牌后重新连接",
    AuthCode.TOKEN_INVALID: "无效的认证令牌，请重新登录",
    AuthCode.TOKEN_REVOKED: "认证令牌已被吊销，请重新登录",
}


class _Claims(msgspec.Struct):
    user_id: int
    username: str
    exp: int | float
    is_admin: bool | int = False
    groups: tuple[str, ...] = ()
    iat: int | float | None = None
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
        for one in (secret, *previous):
            if len(one) < SECRET_BYTES_MIN:
                raise ValueError(
                    f"the token secret has {len(one)} bytes; it needs at least {SECRET_BYTES_MIN}. "
                    "Take random ones, for example from `openssl rand -hex 32`, "
                    "or leave it unset: one is then made at the first start."
                )
        self._secret = secret
        self._accepted = (secret, *previous)
        self._jws = jwt.PyJWS()
        for one in self._accepted:
            try:
                self._jws.get_algorithm_by_name(_ALGORITHM).prepare_key(one)
            except jwt.InvalidKeyError:
                raise ValueError(
                    "the token secret is a public key or a certificate, which others may know. "
                    "Take random bytes, for example from `openssl rand -hex 32`, "
                    "or leave it unset: some are then made at the first start."
                ) from None
        self.revocations = revocations if revocations is not None else Revocations()

    def __repr__(self) -> str:
        return f"Authenticator({len(self._accepted)} secrets)"

    def verify(self, token: str, now_ms: int) -> Verified | AuthFailure:
        """The user of a token that is valid now, or the reason why it is not."""
        claims = self._signed_claims(token)
        verified = claims if isinstance(claims, str) else _checked(claims, now_ms)
        if isinstance(verified, str):
            return _failure(AuthCode.TOKEN_INVALID, verified)
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
        return self._jws.encode(msgspec.json.encode(claims), self._secret, algorithm=_ALGORITHM)

    def _signed_claims(self, token: str) -> _Claims | str:
        """The claims of a token that one of our secrets signed, or the reason why there are none.

        Headers that name keys (kid, jku, x5u) are not read.
        """
        if len(token) > TOKEN_BYTES_MAX or not token.isascii():
            return f"it is longer than {TOKEN_BYTES_MAX} bytes or not ASCII"
        payload = self._usual_payload(token.encode("ascii"))
        if payload is not None:
            return _decoded(payload)
        for secret in self._accepted:
            try:
                whole = self._jws.decode_complete(token, secret, algorithms=[_ALGORITHM])
                # We know no critical extension, so such a token must be refused (RFC 7515, 4.1.11).
                if "crit" in whole["header"]:
                    return "it relies on a critical extension"
                return _decoded(whole["payload"])
            except jwt.InvalidSignatureError:
                continue
            except (jwt.PyJWTError, ValueError, RecursionError) as error:
                return f"it is no token of the form that is accepted here ({type(error).__name__})"
        return "its signature fits no secret of this service: does the issuer use the same secret?"

    def _usual_payload(self, token: bytes) -> bytes | None:
        """The payload of a token of the usual form with a valid signature. None: the library must decide."""
        signed, _, signature = token.rpartition(b".")
        header, _, payload = signed.partition(b".")
        if header not in _HEADERS:
            return None
        for secret in self._accepted:
            expected = _base64_url(hmac.digest(secret, signed, "sha256"))
            if hmac.compare_digest(expected, signature):
                break
        else:
            return None
        try:
            decoded = binascii.a2b_base64(payload.translate(_BASE64) + b"=" * (-len(payload) % 4))
        except binascii.Error:
            return None
        return decoded if _base64_url(decoded) == payload else None


def _base64_url(data: bytes) -> bytes:
    return binascii.b2a_base64(data, newline=False).rstrip(b"=").translate(_BASE64_URL)


def _failure(code: AuthCode, reason: str) -> AuthFailure:
    return AuthFailure(code, _SAY[code], reason)


def _decoded(payload: bytes) -> _Claims | str:
    try:
        return _claims.decode(payload)
    except msgspec.ValidationError as error:  # names the claim and the types, never a value
        return f"its claims do not fit: {error}"
    except (ValueError, RecursionError):
        return "its claims are not JSON"


def _checked(claims: _Claims, now_ms: int) -> Verified | str:
    """The verified token, if every claim is within its bounds and `nbf` has passed; else the fault."""
    exp_ms = _ms(claims.exp)
    iat_ms = None if claims.iat is None else _ms(claims.iat)
    nbf_ms = 0 if claims.nbf is None else _ms(claims.nbf)
    if not (
        abs(claims.user_id) <= ID_MAX
        and 0 < len(claims.username) <= NAME_CHARS_MAX
        and claims.is_admin in (0, 1)
        and len(claims.groups) <= GROUPS_MAX
        and all(GROUP_NAME.fullmatch(name) for name in claims.groups)
        and len(claims.jti) <= JTI_CHARS_MAX
    ):
        return "user_id, username, is_admin, groups or jti is out of bounds"
    if not (claims.iat is None or (iat_ms is not None and iat_ms <= now_ms + _IAT_SKEW_MS)):
        return "iat lies in the future: compare the clocks of the issuer and of this machine"
    if nbf_ms is None or nbf_ms > now_ms:
        return "nbf lies in the future"
    if exp_ms is None:
        return "exp is out of bounds"
    principal = Principal(
        user_id=claims.user_id,
        username=claims.username,
        is_admin=bool(claims.is_admin),
        groups=tuple(dict.fromkeys(claims.groups)),
    )
    return Verified(principal, exp_ms, claims.jti, iat_ms)


def _ms(seconds: float) -> int | None:
    """A JWT's NumericDate in milliseconds; None if it is not a valid moment."""
    if not math.isfinite(seconds) or not 0 <= seconds <= _EXP_MAX_S:
        return None
    return round(seconds * 1000)
