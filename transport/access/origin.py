"""The check of browser pages that open a connection (PROTOCOL 3). Pure.

It keeps a page of another site from using its visitor's network position. Other programs can send any
`Origin`; tokens keep them out. A request without `Origin` does not come from a page.
"""

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
"""Names of this machine. A page of one of them was served here, as was a page of any other of them."""


def origin_allowed(origins: Sequence[str], hosts: Sequence[str], allowed: Sequence[str]) -> bool:
    """Whether the request's `Origin` headers name its own host (any port) or an allowed origin.

    The names of this machine, such as localhost and 127.0.0.1, count as one host.
    """
    if not origins:
        return True
    if len(origins) > 1:
        return False
    origin = origins[0].strip().lower()
    if origin in (entry.rstrip("/").lower() for entry in allowed):
        return True
    own = _hostname(f"//{hosts[0].strip()}") if len(hosts) == 1 else None
    if own is None or not origin.startswith(("http://", "https://")):
        return False
    page = _hostname(origin)
    return page == own or (page in _LOOPBACK and own in _LOOPBACK)


def _hostname(url: str) -> str | None:
    if not url.isprintable():  # the standard library would leave out tabs and ends of lines
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError if it is not a number
    except ValueError:
        return None
    if parts.username is not None or parts.path or parts.query or parts.fragment:
        return None
    return parts.hostname or None
