"""Types of the messages that the server sends of itself. Written by `scripts/pages.py`."""

from typing import Final

WIRE_TYPES: Final = frozenset(
    {
        "authentication_result",
        "events",
        "goaway",
        "heartbeat",
        "lag",
        "live",
        "skipped",
        "snapshot",
        "subscribed",
        "token_expiring",
        "unsubscribed",
    }
)
