"""What a page and a token tell a client that has no WebSocket. Pure."""

import base64
from datetime import UTC, datetime
from typing import Any

import msgspec

type Json = dict[str, Any]


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


def user_of(token: str) -> tuple[Json, str]:
    """The user that a token names, and when it expires. The server has verified it by then."""
    claims: Json = {}
    try:
        payload = token.split(".")[1]
        claims = msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError):
        pass  # no JWT: the application's own function knows whose it is
    user_id = claims.get("user_id", claims.get("sub", ""))
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
    return user, until.isoformat(timespec="milliseconds").replace("+00:00", "Z")
