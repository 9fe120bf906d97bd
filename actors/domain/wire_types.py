"""Types of the messages that the server sends of itself. Written by `scripts/pages.py`."""

from typing import Final

WIRE_TYPES: Final = frozenset(
    {
        "authentication_result",
        "events",
        "following",
        "goaway",
        "heartbeat",
        "lag",
        "live",
        "reached",
        "rows",
        "skipped",
        "snapshot",
        "state",
        "subscribed",
        "token_expiring",
        "unfollowed",
        "unsubscribed",
    }
)
