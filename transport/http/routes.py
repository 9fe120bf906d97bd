"""The paths of the API and what they take. All other paths are the site's. Pure."""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

import msgspec

_READ: Final = ("GET", "HEAD", "OPTIONS")
_WRITE: Final = ("POST", "OPTIONS")


class Target(Enum):
    """What a request is about."""

    STREAM = auto()
    SEEN = auto()
    PUBLISH = auto()
    COMMAND = auto()
    ACKS = auto()
    TICKET = auto()
    DURABLE = auto()
    LOGIN = auto()


class Route(msgspec.Struct, frozen=True):
    """`name`: the rest of the path, of a stream or an action. `methods`: those that it answers."""

    target: Target
    methods: tuple[str, ...]
    name: str = ""


_EXACT: Final[Mapping[str, Route]] = {
    "/seen": Route(Target.SEEN, _READ),
    "/publish": Route(Target.PUBLISH, _WRITE),
    "/acks": Route(Target.ACKS, _WRITE),
    "/ticket": Route(Target.TICKET, _WRITE),
    "/login": Route(Target.LOGIN, _WRITE),
}
_BELOW: Final[Mapping[str, Route]] = {
    "/streams/": Route(Target.STREAM, _READ),
    "/commands/": Route(Target.COMMAND, _WRITE),
    "/ds/": Route(Target.DURABLE, ("GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS")),
}

BEGINNINGS: Final = (
    b"POST ", b"OPTIONS ", b"GET /streams/", b"HEAD /streams/", b"GET /seen", b"HEAD /seen",
    b"GET /commands/", b"GET /publish", b"GET /acks", b"GET /ticket", b"GET /login",
    b"GET /ds/", b"HEAD /ds/", b"PUT /ds/", b"DELETE /ds/",
)  # fmt: skip
"""With one of these begins each request that is for the API. Others are read as before there was one.

Those of `/commands/` to `/login` get an answer that names the right method.
"""


def begins(data: bytes) -> bool | None:
    """Whether a request that begins with `data` may be for the API. None: this is too little to tell."""
    if data.startswith(BEGINNINGS):
        return True
    return None if any(beginning.startswith(data) for beginning in BEGINNINGS) else False


def route_of(path: str) -> Route | None:
    """The route of a decoded path. None: it is not the API's."""
    exact = _EXACT.get(path)
    if exact is not None:
        return exact
    for beginning, route in _BELOW.items():
        if path.startswith(beginning) and len(path) > len(beginning):
            return msgspec.structs.replace(route, name=path[len(beginning) :])
    return None
