"""Failures between us and a mail server, as types. Pure. `outcome` says what each means for the user.

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

docs/mail.md shows this table; a test compares the two.
"""

from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import Final, Literal

import msgspec

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
