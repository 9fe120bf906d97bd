"""Proxies on the way to mail servers, token endpoints and Graph: `http://` (CONNECT) and `socks5://`.

Pure.
"""

from typing import Final, Literal, cast
from urllib.parse import unquote, urlsplit

import msgspec

from huahuo.eventstore.model import Secret
from huahuo.mailcheck.servers.faults import HostRefused
from huahuo.mailcheck.servers.host_rules import host_name

PROXY_CHARS_MAX: Final = 1024
DIRECT: Final = "direct"
"""What a mailbox or group says instead of a proxy to use none, although all others have one."""
_SCHEMES = ("http", "socks5")
_HOW = "write http://HOST:PORT or socks5://HOST:PORT, with USER:PASSWORD@ where it asks for them"


class Proxy(msgspec.Struct, frozen=True):
    """A proxy. `trusted`: the operator named it, so it may be in a private network."""

    scheme: Literal["http", "socks5"]
    host: str
    port: int
    user: str = ""
    password: Secret | None = None
    trusted: bool = False


def parse_proxy(text: str, *, trusted: bool = False) -> Proxy | None:
    """The proxy of a URL, None for an empty text and for `direct`.

    Raises:
        ValueError: it is no such URL. The text of the error holds nothing of it, as it may hold a password.
    """
    given = text.strip()
    if given in ("", DIRECT):
        return None
    if len(given) > PROXY_CHARS_MAX:
        raise ValueError(_HOW)
    try:
        parts = urlsplit(given)
        host, port = host_name(parts.hostname or ""), parts.port
    except (ValueError, HostRefused):
        raise ValueError(_HOW) from None
    if parts.scheme not in _SCHEMES or not port or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(_HOW)
    password = None if parts.password is None else Secret(unquote(parts.password))
    scheme = cast("Literal['http', 'socks5']", parts.scheme)
    return Proxy(scheme, host, port, unquote(parts.username or ""), password, trusted)
