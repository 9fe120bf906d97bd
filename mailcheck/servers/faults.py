"""Failures between us and a mail server, as types. Pure.

MailFault
 +- HostRefused         the host, its address or its port may not be used (never connected)
 +- DnsFailed           the name has no address
 +- ConnectFailed       no address of the host accepted the connection
 +- TlsFailed           no secure connection; `certificate` if the server could not prove its name
 +- ClearTextRefused    a password would have crossed a public network in clear
 +- ProxyFailed         the proxy could not be reached, or refused to connect
 +- BadCredentials      user or password cannot be sent (they hold CR, LF or NUL); nothing was sent
 +- ImapError
     +- CommandRefused  the server answered NO or BAD
     +- ServerBye       the server said goodbye
     +- ConnectionLost  the connection ended without a goodbye
     +- TimedOut        no answer within the deadline
     +- BrokenProtocol  the server violated IMAP or exceeded our bounds
     +- NoMechanism     the server offers no way to sign in with what the mailbox has
 +- GrantRefused        the token endpoint does not accept the grant
 +- NoScope             the grant is good, but not for this use
 +- HttpFailed          a token endpoint or Graph refused, or cannot serve now

Every kind of failure of a check: its class, what happened, and what to do next, in both languages. Pure.

docs/mail.md shows this table; a test compares the two. The class of a failure decides the mailbox's terminal
status: `need_reauth` only if the server said that it does not accept these credentials, `error` for
everything else. A server's own text is recorded for the owner after `sanitise`, but is never the message.

What the answer of a token endpoint means (RFC 6749, and how Microsoft words it). Pure.
"""

import base64
import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final, Literal
from urllib.parse import quote

import msgspec

from huahuo.eventstore.model import Secret

# ruff: noqa: N818  named after what happened, as in the field


class MailFault(Exception):
    """Base of every failure that may end a check. Its text never holds credentials."""

    kind = "protocol"
    """Its name in `KINDS`."""


class HostRefused(MailFault):
    """The host, an address of it or the port is not allowed. `reason` is one of `host_rules.Reason`."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"mail server refused: {reason}")
        self.reason = reason
        self.kind = "host_malformed" if reason == "malformed" else "host_refused"


class DnsFailed(MailFault):
    """The host's name could not be resolved."""

    kind = "dns"


class ConnectFailed(MailFault):
    """No address of the host accepted the connection. `timed_out`: the last one did not answer."""

    def __init__(self, text: str, *, timed_out: bool = False) -> None:
        super().__init__(text)
        self.kind = "timeout" if timed_out else "connect"


class TlsFailed(MailFault):
    """TLS was not established. `certificate`: the server's certificate did not prove its name."""

    def __init__(self, text: str, *, certificate: bool = False) -> None:
        super().__init__(text)
        self.certificate = certificate
        self.kind = "certificate" if certificate else "tls"


class ClearTextRefused(MailFault):
    """The server offers no TLS and its address is public: the password was not sent."""

    kind = "clear_text"


class ProxyFailed(MailFault):
    """The proxy could not be reached, or it did not connect."""

    kind = "proxy"


class BadCredentials(MailFault):
    """User or password hold CR, LF or NUL; nothing was sent."""

    kind = "bad_credentials"


class ImapError(MailFault):
    """Base of failures on an established connection."""


class CommandRefused(ImapError):
    """A tagged NO or BAD. `code` is the response code's first word in upper case ("" for none)."""

    def __init__(self, command: str, status: str, code: str, text: str) -> None:
        super().__init__(f"{command}: {status} {text}")
        self.command = command
        self.status = status
        self.code = code
        self.text = text


class ServerBye(ImapError):
    """An untagged BYE before our LOGOUT."""

    def __init__(self, text: str) -> None:
        super().__init__(f"BYE {text}")
        self.text = text


class ConnectionLost(ImapError):
    """End of the stream or a reset in the middle of a session."""

    kind = "lost"


class TimedOut(ImapError):
    """The deadline of a command or of the whole check passed."""

    kind = "timeout"


class BrokenProtocol(ImapError):
    """What the server sent is not IMAP, or exceeds a bound."""


class NoMechanism(ImapError):
    """The server offers no mechanism by which the mailbox could sign in."""

    kind = "no_mechanism"


class GrantRefused(MailFault):
    """The token endpoint refused the grant for good. `error` is its code, `text` its description, cleaned."""

    def __init__(self, error: str, text: str) -> None:
        super().__init__(f"grant refused: {error}")
        self.error = error
        self.text = text


class NoScope(GrantRefused):
    """The grant does not hold this scope. Another scope, or another way to the mails, may do."""

    kind = "no_scope"


class HttpFailed(MailFault):
    """A token endpoint or Graph answered with an error.

    `passing`: a later try may succeed, not before `retry_after_s` where the server gave that.
    """

    def __init__(self, status: int, text: str, *, passing: bool, retry_after_s: float | None = None) -> None:
        super().__init__(f"HTTP {status}: {text}")
        self.status = status
        self.text = text
        self.passing = passing
        self.retry_after_s = retry_after_s


type ErrorClass = Literal["auth", "network", "tls", "limit", "provider_down", "protocol", "config"]


class Kind(msgspec.Struct, frozen=True):
    """One kind of failure. `retry`: a later try without any change may succeed."""

    error_class: ErrorClass
    chinese: str
    english: str
    advice_chinese: str
    advice_english: str
    retry: bool = False
    must_sign_in: bool = False
    """The check ends as `need_reauth`, else as `error`."""

    @property
    def message(self) -> str:
        """What happened. If the user must sign in again, also what to do: some clients show nothing else."""
        chinese, english = self.messages
        return f"{chinese} ({english})"

    @property
    def messages(self) -> tuple[str, str]:
        """`message` in Chinese and in English."""
        if not self.must_sign_in:
            return self.chinese, self.english
        return f"{self.chinese}，{self.advice_chinese}", f"{self.english}: {self.advice_english}"

    @property
    def advice(self) -> str:
        """What to do next."""
        return f"{self.advice_chinese} ({self.advice_english})"


KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    msgspec.json.decode(files(__package__).joinpath("failures.json").read_bytes(), type=dict[str, Kind])
)
"""By name. The texts are those of `failures.json`, in both languages."""


type FailedStatus = Literal["error", "need_reauth"]

SERVER_TEXT_CHARS_MAX = 300

_THROTTLED_CODES = frozenset({"LIMIT", "UNAVAILABLE", "INUSE", "THROTTLED", "OVERQUOTA", "BUSY"})
_CREDENTIAL_CODES = frozenset({"AUTHENTICATIONFAILED", "AUTHORIZATIONFAILED"})
_OWN_KINDS: Final = {"PRIVACYREQUIRED": "clear_text", "WEBALERT": "web_alert", "EXPIRED": "password_expired"}
"""Response codes that say by themselves why a login was refused."""
_CREDENTIAL_WORDS = re.compile(
    r"password|credential|authenticat|invalid user|user name|username|密码|授权码|帐号|账号", re.IGNORECASE
)
_THROTTLED_WORDS = re.compile(
    r"too many|rate limit|try again|temporar|throttl|simultaneous|concurrent|connection limit|busy"
    r"|频繁|频率|稍后",
    re.IGNORECASE,
)
_NOT_CONNECTED = re.compile(r"authenticated but not connected", re.IGNORECASE)
_NO_FOLDER = re.compile(r"not exist|doesn't exist|no such|unknown (mailbox|folder)|not found", re.IGNORECASE)
_UNSAFE_LOGIN = re.compile(r"unsafe login", re.IGNORECASE)

# C0, DEL, C1, soft hyphen and zero-width or direction-changing characters: invisible, but they change how
# a log line or a page reads.
_INVISIBLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]+"
)

_OF_CLIENT = frozenset({"invalid_client", "unauthorized_client"})
# 700016: no such application here. 7000215, 7000218, 7000222: its secret is wrong, missing or too old.
_CLIENT_WORDS = re.compile(r"AADSTS(700016|7000(?:215|218|222))\b")

_GRANT_WORDS = re.compile(r"AADSTS70000\b")
_LOCKED_WORDS = re.compile(r"abuse|locked|blocked", re.IGNORECASE)

_SPEAKING = (CommandRefused, ServerBye, GrantRefused, HttpFailed)
"""Faults with words of the server."""
_TOO_MANY = 429


_OVER_HTTP: Final = {
    **dict.fromkeys(("dns", "connect", "timeout", "lost"), "http_away"),
    "certificate": "http_certificate",
    "tls": "http_tls",
    "protocol": "http_protocol",
    "throttled": "http_throttled",
}
"""Kinds of failures that are said of the mail server, and the same of a token endpoint or Graph."""


class Outcome(msgspec.Struct, frozen=True):
    """A classified failure.

    `status` is the terminal status of the check, `kind` a stable word for logs and metrics, `message` the
    text for the user, `server_text` the server's own text (sanitised, "" for none), only for the owner's
    record. `retry`: a later try without any change may succeed. `error_class` and `advice` are those of the
    table of kinds.
    """

    status: FailedStatus
    kind: str
    message: str
    server_text: str = ""
    retry: bool = False
    error_class: str = ""
    advice: str = ""
    own_way: bool = False
    """The mailbox has a proxy of its own, so this says nothing of its server."""

    @property
    def said(self) -> str:
        """The message, with the server's own words behind it."""
        return f"{self.message}: {self.server_text}" if self.server_text else self.message


def classify(fault: MailFault, *, over_http: bool = False) -> Outcome:
    """The outcome that `fault` means. `over_http`: of the token endpoint or Graph, not of the mail server."""
    kind = _kind(fault)
    if over_http:
        kind = _OVER_HTTP.get(kind, kind)
    return outcome_of(kind, fault.text if isinstance(fault, _SPEAKING) else "")


def outcome_of(kind: str, server_text: str = "") -> Outcome:
    """The outcome of a kind of failure."""
    known = KINDS[kind]
    return Outcome(
        status="need_reauth" if known.must_sign_in else "error",
        kind=kind,
        message=known.message,
        server_text=server_text,
        retry=known.retry,
        error_class=known.error_class,
        advice=known.advice,
    )


def _kind(fault: MailFault) -> str:
    match fault:
        case CommandRefused():
            return _refused(fault)
        case ServerBye():
            return "throttled" if _THROTTLED_WORDS.search(fault.text) else "bye"
        case GrantRefused() if not isinstance(fault, NoScope):
            if fault.error in _OF_CLIENT or _CLIENT_WORDS.search(fault.text):
                return "client_refused"
            if _GRANT_WORDS.search(fault.text):
                return "account_locked" if _LOCKED_WORDS.search(fault.text) else "grant_foreign"
            return "grant_refused"
        case HttpFailed():
            if fault.status == _TOO_MANY:
                return "http_throttled"
            return "http_down" if fault.passing else "http_refused"
        case _:
            return fault.kind


def _refused(fault: CommandRefused) -> str:
    if fault.code in _THROTTLED_CODES or _NOT_CONNECTED.search(fault.text):
        return "throttled"
    if _UNSAFE_LOGIN.search(fault.text):
        return "unsafe_login"
    if fault.command == "LOGIN":
        return _refused_login(fault)
    if fault.command == "AUTHENTICATE":
        # Servers word a refused token as they like, and a second try with another token settles it.
        kind = _refused_login(fault)
        return "token_refused" if kind in ("login_refused", "password_expired") else kind
    if fault.code == "NONEXISTENT" or _NO_FOLDER.search(fault.text):
        return "no_folder"
    return "throttled" if _THROTTLED_WORDS.search(fault.text) else "refused"


def _refused_login(fault: CommandRefused) -> str:
    """A provider that lists every possible cause in one sentence means the password."""
    if fault.code in _OWN_KINDS:
        return _OWN_KINDS[fault.code]
    if fault.code in {"SERVERBUG", "CONTACTADMIN"}:
        return "refused"
    if fault.code in _CREDENTIAL_CODES or _CREDENTIAL_WORDS.search(fault.text):
        return "login_refused"
    if _THROTTLED_WORDS.search(fault.text):
        return "throttled"
    return "login_refused" if fault.status == "NO" else "refused"


def sanitise(text: bytes | str, secrets: Iterable[Secret] = ()) -> str:
    """A server's text made fit for a record: no secret in any usual spelling, one line, visible, bounded."""
    shown = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    for spelling in sorted(
        {s for secret in secrets for s in _spellings(secret.reveal())}, key=len, reverse=True
    ):
        shown = shown.replace(spelling, "***")
    shown = " ".join(_INVISIBLE.sub(" ", shown).split())
    if len(shown) > SERVER_TEXT_CHARS_MAX:
        shown = shown[: SERVER_TEXT_CHARS_MAX - 1] + "…"
    return shown


def _spellings(secret: str) -> set[str]:
    """The forms in which a server may echo a secret: plain, quoted, escaped, hex, base64 (each alignment)."""
    if not secret:
        return set()
    raw = secret.encode("utf-8", "replace")
    found = {
        secret,
        secret.replace("\\", "\\\\").replace('"', '\\"'),
        quote(secret, safe=""),
        raw.decode("latin-1"),
        raw.hex(),
    }
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw).decode()
        # The characters at both ends depend on the neighbouring bytes too: search for the middle only.
        middle = encoded[(0, 2, 3)[shift] : len(encoded) - (0, 3, 2)[(shift + len(raw)) % 3]]
        if len(middle) >= 4:  # noqa: PLR2004  shorter ones would hit ordinary words
            found.add(middle)
    return found


_OK = 200
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
