"""The user that the claims of a verified token name (PROTOCOL 3.1). Pure: the time is an argument.

Other issuers name their claims differently. `ClaimNames` says where the user's id, the groups and the
administrator's mark are: a claim by its name, or by a path with dots (`realm_access.roles`).
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from huahuo.actors.plugins.principal import USER_ID_RULE, Principal, user_id_of
from huahuo.transport.access.common_time import IssueMs
from huahuo.transport.access.compact import TokenError
from huahuo.transport.access.verified import Verified

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
