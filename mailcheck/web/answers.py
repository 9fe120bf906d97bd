"""What the answer of a token endpoint means (RFC 6749, and how Microsoft words it). Pure."""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from huahuo.eventstore.model import Secret
from huahuo.mailcheck.imap.outcome import sanitise
from huahuo.mailcheck.servers.faults import GrantRefused, HttpFailed, NoScope

_OK = 200
_TOO_MANY = 429
_SERVER = 500
_RETRY_S_MAX = 86_400.0
_LIFETIME_S = 3600.0
"""Of an access token whose answer does not say."""
_TOKEN_CHARS_MAX = 16_384

_FINAL = frozenset(
    {
        "invalid_grant",
        "interaction_required",
        "consent_required",
        "login_required",
        "unauthorized_client",
        "invalid_client",
        "access_denied",
        "authorization_declined",
        "bad_verification_code",
        "expired_token",
    }
)
_PASSING = frozenset({"temporarily_unavailable", "server_error", "slow_down"})
_SCOPE = frozenset({"invalid_scope", "invalid_resource", "consent_required", "insufficient_scope"})
# 65001: no consent to this scope. 70011: no such scope. 500011, 65005*: the application or the organisation
# does not have what the scope is for. 70000 also comes for scopes that the grant lacks.
_SCOPE_WORDS = re.compile(
    r"AADSTS(65001|70011|500011|65005[0-9])\b|AADSTS70000\b.*\bscopes?\b", re.DOTALL | re.IGNORECASE
)


class Answer(msgspec.Struct, frozen=True):
    """An answer. Names of headers are in lower case. `cut`: only the beginning of the body was read."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    cut: bool = False

    def __repr__(self) -> str:
        return f"Answer({self.status}, '[sealed]')"

    def json(self) -> dict[str, Any]:
        """The body as a JSON object, empty if it is none."""
        try:
            return msgspec.json.decode(self.body, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return {}


class Issued(msgspec.Struct, frozen=True):
    """An access token, and the next refresh token if the server rotated it.

    `scope` is "" if it is not told.
    """

    access_token: Secret
    lifetime_s: float
    refresh_token: Secret | None = None
    scope: str = ""


def issued(answer: Answer, now_ms: int, secrets: tuple[Secret, ...] = ()) -> Issued:
    """The tokens of an answer. `secrets` are struck out of what the server said.

    Raises:
        NoScope, GrantRefused, HttpFailed: see there.
    """
    fields = answer.json()
    access = fields.get("access_token")
    if answer.status == _OK and isinstance(access, str) and 0 < len(access) <= _TOKEN_CHARS_MAX:
        following = fields.get("refresh_token")
        return Issued(
            Secret(access),
            min(max(seconds_of(fields.get("expires_in"), _LIFETIME_S), 1.0), _RETRY_S_MAX),
            Secret(following) if isinstance(following, str) and following else None,
            _text(fields.get("scope")),
        )
    raise refusal(answer, now_ms, secrets)


def refusal(answer: Answer, now_ms: int, secrets: tuple[Secret, ...] = ()) -> GrantRefused | HttpFailed:
    """The fault that an answer without tokens means."""
    fields = answer.json()
    error, text = error_of(fields, secrets)
    if answer.status == _TOO_MANY or answer.status >= _SERVER or error in _PASSING:
        wait_s = retry_after_s(answer.headers, now_ms)
        return HttpFailed(answer.status, text or error, passing=True, retry_after_s=wait_s)
    if error in _SCOPE or (error in _FINAL and _SCOPE_WORDS.search(text)):
        return NoScope(error, text)
    if error in _FINAL:
        return GrantRefused(error, text)
    return HttpFailed(answer.status, text or error or "no JSON", passing=False)


def error_of(fields: Mapping[str, Any], secrets: tuple[Secret, ...] = ()) -> tuple[str, str]:
    """The code of an error and the server's words, cleaned: OAuth's form, and Graph's."""
    error = fields.get("error")
    if isinstance(error, Mapping):
        return sanitise(_text(error.get("code")), secrets), sanitise(_text(error.get("message")), secrets)
    words = _text(fields.get("error_description")) or _text(error)
    return sanitise(_text(error), secrets), sanitise(words, secrets)


def retry_after_s(headers: Mapping[str, str], now_ms: int) -> float | None:
    """`Retry-After` in seconds, given as a number or as a date. None if there is none."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    if text.isdecimal():
        return min(float(text[:9]), _RETRY_S_MAX)
    try:
        when = parsedate_to_datetime(text)
    except Exception:  # noqa: BLE001  its errors are of several types, none of them ours
        return None
    moment = when if when.tzinfo else when.replace(tzinfo=UTC)
    until_s = (moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() - now_ms / 1000
    return min(max(until_s, 0.0), _RETRY_S_MAX)


def seconds_of(value: object, default: float) -> float:
    """A number of seconds, which servers also write as a text; `default` if it is none."""
    try:
        seconds = float(value) if isinstance(value, int | float | str) else default
    except (ValueError, OverflowError):
        return default
    return default if math.isnan(seconds) else seconds


def _text(value: object) -> str:
    return str(value) if value and isinstance(value, str | int | float) else ""
