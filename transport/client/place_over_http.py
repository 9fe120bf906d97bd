"""What a page and a token tell a client that has no WebSocket. Pure."""

import base64
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

type Json = dict[str, Any]

_HEARTBEAT_S: Final = 30
"""Of the servers that have no `/who`."""


class Asked(msgspec.Struct, frozen=True):
    """Where a reader wants to begin. A number counts in the log `log`."""

    stream: str
    after: int | str
    log: str | None


def place_of(asked: Asked, page: Json | None) -> Json:
    """How the server placed the reader, as `subscribed` says it. `page` None: it may not read the stream."""
    if page is None:
        return {"outcome": "denied", "after": 0, "first": 0, "head": 0}
    begin = page["next"]
    if isinstance(asked.after, int) and page["outcome"] == "resumed":
        begin = asked.after
    elif page["events"]:
        begin = page["events"][0]["seq"] - 1
    return {"outcome": page["outcome"], "after": begin, "first": 1, "head": page["next"]}


def said_by(token: str) -> Json | None:
    """What `/who` says, as a token says it: for servers that are older than `/who`. None: it names nobody.

    The server verifies the token at the requests that follow.
    """
    try:
        payload = token.split(".")[1]
        claims = msgspec.json.decode(
            base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)), type=dict[str, Any]
        )
    except (IndexError, ValueError):
        return None
    user_id = claims.get("user_id", claims.get("sub"))
    if not isinstance(user_id, int | str) or user_id == "":
        return None
    user = {
        "user_id": user_id,
        "username": claims.get("username", str(user_id)),
        "is_admin": bool(claims.get("is_admin")),
        "groups": claims.get("groups", []),
    }
    try:
        until = datetime.fromtimestamp(claims["exp"], UTC)
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        until = datetime.max.replace(tzinfo=UTC)
    expires_at = until.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"user": user, "expires_at": expires_at, "heartbeat_s": _HEARTBEAT_S}
