"""What a signed token says: its parts, the user that its claims name, and the time that counts for it. Pure.

Parts are those of RFC 7515, compact form, whatever signed them. Headers that name keys or where to find
them (jku, jwk, x5u, x5c) are never followed: `kid` may only choose among keys that the service has.

Other issuers name their claims differently (PROTOCOL 3.1). `ClaimNames` says where the user's id, the
groups and the administrator's mark are: a claim by its name, or by a path with dots
(`realm_access.roles`).

The nodes of a cluster share a time: that of their ordered log, which no clock that is behind holds up. By
it a node whose clock is behind takes the fresh tokens that the other nodes take too, and ends those that
they issued.
"""

import binascii
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

import msgspec

from huahuo.actors.plugins.calls import USER_ID_RULE, Principal, UserId, user_id_of
from huahuo.transport.access.rights import Verified

TOKEN_BYTES_MAX = 4096
ISSUED_BYTES_MAX = 8192
"""The same for tokens of another issuer, which list roles and groups at length."""
KID_CHARS_MAX = 256

_HEADERS_MAX = 64  # an issuer writes one header for each key; 64 of the largest hold 512 KiB

_TO_BASE64 = bytes.maketrans(b"-_", b"+/")
_TO_BASE64URL = bytes.maketrans(b"+/", b"-_")

_header = msgspec.json.Decoder(dict[str, Any])


class TokenError(Exception):
    """The token is not accepted. The text is for the log and has nothing of the token in it."""


class Header(msgspec.Struct, frozen=True):
    """What a token's header says. `fault`: why no token with it is accepted, whatever its signature."""

    algorithm: str = ""
    kid: str | None = None
    fault: str = ""


class Compact(msgspec.Struct, frozen=True):
    """A token in its parts. `payload` and `signature` are still base64url."""

    header: Header
    signed: bytes
    payload: bytes
    signature: bytes


def parts_of(token: str, bytes_max: int = TOKEN_BYTES_MAX) -> Compact:
    """The parts. Raises TokenError: it is too long, or no header can be read."""
    if len(token) > bytes_max or not token.isascii():
        raise TokenError(f"it is longer than {bytes_max} bytes or not ASCII")
    signed, _, signature = token.encode("ascii").rpartition(b".")
    header, _, payload = signed.partition(b".")
    read = _read(header)
    if read.fault:
        raise TokenError(read.fault)
    return Compact(read, signed, payload, signature)


@lru_cache(_HEADERS_MAX)
def _read(segment: bytes) -> Header:
    try:
        said = _header.decode(decoded(segment))
    except (TokenError, ValueError, RecursionError):
        return Header(fault="its header is no JSON object in base64url")
    # We know no critical extension, so such a token must be refused (RFC 7515, 4.1.11). `b64` changes what
    # is signed (RFC 7797), and is itself such an extension.
    if "crit" in said or said.get("b64", True) is not True:
        return Header(fault="it relies on a critical extension")
    kid = said.get("kid", "")
    if not isinstance(kid, str):
        return Header(fault="its kid is no text")
    algorithm = said.get("alg")
    return Header(algorithm if isinstance(algorithm, str) else "", kid if "kid" in said else None)


def decoded(segment: bytes) -> bytes:
    """The bytes of a base64url text in its one canonical form. Raises TokenError for any other.

    RFC 7515 writes no padding; complete padding is accepted, because some issuers write it.
    """
    text = segment.rstrip(b"=")
    padding = b"=" * (-len(text) % 4)
    try:
        data = binascii.a2b_base64(text.translate(_TO_BASE64) + padding)
    except binascii.Error:
        raise TokenError("it is no base64url") from None
    # Decoding passes over foreign characters and unused bits; written again, they would be missing.
    written = binascii.b2a_base64(data, newline=False).translate(_TO_BASE64URL)
    if written != text + padding or segment not in (text, written):
        raise TokenError("it is no base64url")
    return data


LOG_AHEAD_MS_MAX: Final = 600_000
"""By how much the nodes' common time may be ahead of this machine's clock and still say what is of today."""
ISSUED_AHEAD_MS_MAX: Final = 86_400_000
"""How far ahead a clock may be whose node dates what it issues back: what it signs ends later by as much."""

type Latest = Callable[[int], int]
"""What time it is for revocations and for what is issued, at a time of this machine's clock."""
type IssueMs = Callable[[UserId], int]
"""Of when what is issued for a user is, or may be."""
type Others = Callable[[], int | None]
"""What time other nodes have, as far as it is to be heeded; None if not."""


def own_clock(now_ms: int) -> int:
    """`Latest` of a service that is alone."""
    return now_ms


def among_nodes(log_ms: Callable[[], int], others_ms: Others = lambda: None) -> Latest:
    """`Latest` of a node. `log_ms`: the nodes' common time.

    `others_ms`: what time most other nodes have, while it is known that this machine's clock is wrong.
    """

    def latest_ms(now_ms: int) -> int:
        latest = max(now_ms, min(log_ms(), now_ms + LOG_AHEAD_MS_MAX))
        others = others_ms()
        return latest if others is None else max(others, min(latest, others + LOG_AHEAD_MS_MAX))

    return latest_ms


def issued_among(latest_ms: Latest, earliest_ms: Others) -> Latest:
    """Of when is what a node issues, whose clock may be so far ahead that others take it for of the future.

    Then it goes by the time of theirs. `earliest_ms`: what time the node has whose clock is the last, while
    no node agrees with this one.
    """

    def issued_ms(now_ms: int) -> int:
        earliest = earliest_ms()
        if earliest is not None and LOG_AHEAD_MS_MAX < now_ms - earliest <= ISSUED_AHEAD_MS_MAX:
            return earliest
        return latest_ms(now_ms)

    return issued_ms


GROUPS_MAX = 128
NAME_CHARS_MAX = 256
JTI_CHARS_MAX = 128

GROUP_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""What would break a line of a log or a terminal where a name is shown."""

_EXP_MAX_S: Final = 253_402_300_799  # 9999-12-31T23:59:59Z, the last moment that RFC 3339 can write
NEVER_MS: Final = _EXP_MAX_S * 1000
"""The expiry of what does not expire."""
SKEW_MS: Final = 5_000
"""An issuer's clock may be ahead by at most this."""
_PLAIN: Final = ("exp", "username", "iat", "auth_time", "nbf", "jti")
_SEPARATORS: Final = re.compile(r"[ ,]+")


class Claims(msgspec.Struct):
    """The claims that are read, with the service's own names."""

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


class ClaimNames(msgspec.Struct, frozen=True):
    """Where an issuer's claims are; "": under the service's own names.

    `admin` may be `CLAIM=VALUE`: users whose claim is or lists this value are administrators.
    """

    user: str = ""
    groups: str = ""
    admin: str = ""


OWN_NAMES: Final = ClaimNames()

_claims = msgspec.json.Decoder(Claims)
_any_claims = msgspec.json.Decoder(dict[str, Any])


def own_claims(payload: bytes, names: ClaimNames) -> Claims:
    """The claims of a token that the shared secret signed.

    The service signs tokens too, so a claim that `names` does not find has the service's own name. Raises
    TokenError.
    """
    if names == OWN_NAMES:
        return _decoded(_claims, payload)
    given: dict[str, Any] = _decoded(_any_claims, payload)
    kept = {name: value for name, value in given.items() if name in Claims.__struct_fields__}
    if names.user and _found(given, names.user) is not None:
        kept["user_id"] = _found(given, names.user)
    if names.groups and _found(given, names.groups) is not None:
        kept["groups"] = _groups(_found(given, names.groups))
    if names.admin and _found(given, names.admin.partition("=")[0]) is not None:
        kept["is_admin"] = _admin(given, names.admin)
    return _converted(kept)


def issued_claims(payload: bytes, names: ClaimNames, *, issuer: str, audience: str) -> Claims:
    """The claims of another issuer's token. `issuer` and `audience`: what must stand in it, "" anything.

    Names of groups that no stream can have are left out. Raises TokenError.
    """
    given: dict[str, Any] = _decoded(_any_claims, payload)
    if issuer and given.get("iss") != issuer:
        raise TokenError("it is of another issuer than jwt_issuer")
    meant = given.get("aud")
    if audience and meant != audience and not (isinstance(meant, list) and audience in meant):
        raise TokenError("it is meant for another audience than jwt_audience")
    kept: dict[str, Any] = {name: given[name] for name in _PLAIN if name in given}
    if names.user:
        kept["user_id"] = _found(given, names.user)
    else:
        kept |= {name: given[name] for name in ("user_id", "sub") if name in given}
    kept["groups"] = _groups(_found(given, names.groups or "groups"))
    kept["is_admin"] = _admin(given, names.admin or "is_admin")
    return _converted(kept)


def verified_of(claims: Claims, newest_ms: IssueMs) -> Verified:
    """The user, if every claim is within its bounds and `nbf` has passed. It may have expired.

    `newest_ms`: how new a token of this user may be. Raises TokenError.
    """
    told = claims.sub if claims.user_id is None else claims.user_id
    if told is None:
        raise TokenError("its claims do not fit: there is neither user_id nor sub")
    user_id = user_id_of(told)
    if user_id is None:
        raise TokenError(f"its claims do not fit: {USER_ID_RULE}")
    username = str(told) if claims.username is None else claims.username
    if not (
        0 < len(username) <= NAME_CHARS_MAX
        and claims.is_admin in (0, 1)
        and len(claims.groups) <= GROUPS_MAX
        and all(GROUP_NAME.fullmatch(name) for name in claims.groups)
        and len(claims.jti) <= JTI_CHARS_MAX
    ):
        raise TokenError("username, is_admin, groups or jti is out of bounds")
    if CONTROL.search(username) or CONTROL.search(claims.jti):
        raise TokenError("username or jti has control characters")
    iat_ms = None if claims.iat is None else _ms(claims.iat, "iat")
    latest_ms = newest_ms(user_id)
    if iat_ms is not None and iat_ms > latest_ms:
        raise TokenError("iat lies in the future: compare the clocks of the issuer and of this machine")
    if claims.nbf is not None and _ms(claims.nbf, "nbf") > latest_ms:
        raise TokenError("nbf lies in the future: compare the clocks of the issuer and of this machine")
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


def _decoded[T](decoder: msgspec.json.Decoder[T], payload: bytes) -> T:
    try:
        return decoder.decode(payload)
    except msgspec.ValidationError as error:  # names the claim and the types, never a value
        raise TokenError(f"its claims do not fit: {error}") from None
    except (ValueError, RecursionError):
        raise TokenError("its claims are not JSON") from None


def _converted(kept: Mapping[str, Any]) -> Claims:
    try:
        return msgspec.convert(kept, Claims)
    except msgspec.ValidationError as error:
        raise TokenError(f"its claims do not fit: {error}") from None


def _found(given: Mapping[str, Any], name: str) -> Any:
    """The claim of this name, or at the end of this path; None if there is none."""
    if name in given:
        return given[name]
    at: Any = given
    for part in name.split("."):
        if not isinstance(at, Mapping):
            return None
        at = at.get(part)
    return at


def _groups(value: object) -> list[str]:
    """Those names in a list, or in a text with spaces or commas, that a stream `group/…` can have."""
    listed = _SEPARATORS.split(value) if isinstance(value, str) else value
    if not isinstance(listed, list):
        return []
    return [one for one in listed if isinstance(one, str) and GROUP_NAME.fullmatch(one)]


def _admin(given: Mapping[str, Any], name: str) -> Any:
    claim, equals, wanted = name.partition("=")
    value = _found(given, claim)
    if not equals:
        return False if value is None else value
    return value == wanted or (isinstance(value, list) and wanted in value)


def _ms(seconds: float, claim: str) -> int:
    """A JWT's NumericDate in milliseconds. Raises TokenError if it is not a valid moment."""
    if not 0 <= seconds <= _EXP_MAX_S:  # nor is it, if it is no number
        raise TokenError(f"{claim} is out of bounds")
    return round(seconds * 1000)
