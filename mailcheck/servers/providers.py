"""The server of a mailbox if the user named none: by `mail_type`, else by the domain. Pure."""

from types import MappingProxyType

import msgspec

IMAPS_PORT = 993
IMAP_PORT = 143

_BY_TYPE = MappingProxyType(
    {
        "outlook": "outlook.office365.com",
        "gmail": "imap.gmail.com",
        "qq": "imap.qq.com",
    }
)
_BY_DOMAIN = MappingProxyType(
    {
        "gmail.com": "imap.gmail.com",
        "googlemail.com": "imap.gmail.com",
        "qq.com": "imap.qq.com",
        "vip.qq.com": "imap.qq.com",
        "foxmail.com": "imap.qq.com",
        "outlook.com": "outlook.office365.com",
        "hotmail.com": "outlook.office365.com",
        "live.com": "outlook.office365.com",
        "msn.com": "outlook.office365.com",
        "yahoo.com": "imap.mail.yahoo.com",
        "icloud.com": "imap.mail.me.com",
        "me.com": "imap.mail.me.com",
    }
)

MAIL_TYPES = ("outlook", "imap", "gmail", "qq")


class Endpoint(msgspec.Struct, frozen=True):
    """Where to connect. `use_ssl` False: begin in clear text, and use STARTTLS if the server offers it."""

    host: str
    port: int
    use_ssl: bool


def endpoint(
    mail_type: str, email: str, *, server: str = "", port: int | None = None, use_ssl: bool | None = None
) -> Endpoint:
    """The server of a mailbox. What the user gave overrides every default.

    A missing server of type `imap` is guessed as `imap.<domain>` (which holds for 163 and 126 too).
    A missing `use_ssl` follows the port (143: plain), a missing port follows `use_ssl`.
    """
    if use_ssl is None:
        use_ssl = port != IMAP_PORT
    if port is None:
        port = IMAPS_PORT if use_ssl else IMAP_PORT
    return Endpoint(server.strip() or _default_host(mail_type, email), port, use_ssl)


def _default_host(mail_type: str, email: str) -> str:
    domain = email.rpartition("@")[2].strip().lower()
    return _BY_TYPE.get(mail_type) or _BY_DOMAIN.get(domain) or f"imap.{domain}"
