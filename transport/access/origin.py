"""The check of browser pages that open a connection (PROTOCOL 3). Pure.

It keeps a page of another site from using its visitor's network position. Other programs can send any
`Origin`; tokens keep them out. A request without `Origin` does not come from a page.
"""

from collections.abc import Sequence
from urllib.parse import urlsplit


def origin_allowed(origins: Sequence[str], hosts: Sequence[str], allowed: Sequence[str]) -> bool:
    """Whether the request's `Origin` headers name its own host (any port) or an allowed origin."""
    if not origins:
        return True
    if len(origins) > 1:
        return False
    origin = origins[0].strip().lower()
    if origin in (entry.rstrip("/").lower() for entry in allowed):
        return True
    own = _hostname(f"//{hosts[0].strip()}") if len(hosts) == 1 else None
    return own is not None and origin.startswith(("http://", "https://")) and _hostname(origin) == own


def _hostname(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError if it is not a number
    except ValueError:
        return None
    if parts.username is not None or parts.path or parts.query or parts.fragment:
        return None
    return parts.hostname or None
