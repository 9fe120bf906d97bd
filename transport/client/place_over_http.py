"""What a page tells a client that has no WebSocket. Pure."""

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
