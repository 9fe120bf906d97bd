"""The paths of the API and of plug-ins, and what they take. All other paths are the site's. Pure."""

import re
from collections.abc import Iterable, Mapping
from enum import Enum, auto
from typing import Final

import msgspec

from huahuo.actors.plugins.http import HttpRoute

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
    WHO = auto()
    DURABLE = auto()
    LOGIN = auto()
    PLUGIN = auto()
    NODE = auto()


class Route(msgspec.Struct, frozen=True):
    """`name`: the rest of the path, of a stream or an action. `methods`: those that it answers.

    `parameters`: those that its query may have; None: any, as an open protocol or a plug-in wants it.

    `plugin`: the plug-in's route (any of this path, if the method is none of them); `names`: its parts.
    """

    target: Target
    methods: tuple[str, ...]
    name: str = ""
    parameters: tuple[str, ...] | None = ()
    plugin: HttpRoute | None = None
    names: Mapping[str, str] = {}


EXACT: Final[Mapping[str, Route]] = {
    "/seen": Route(Target.SEEN, _READ, parameters=("stream", "seq", "client", "wait")),
    "/publish": Route(Target.PUBLISH, _WRITE),
    "/acks": Route(Target.ACKS, _WRITE),
    "/ticket": Route(Target.TICKET, _WRITE),
    "/who": Route(Target.WHO, _READ),
    "/login": Route(Target.LOGIN, _WRITE),
}
BELOW: Final[Mapping[str, Route]] = {
    "/streams/": Route(Target.STREAM, _READ, parameters=("after", "limit", "wait", "ticket")),
    "/commands/": Route(Target.COMMAND, _WRITE),
    "/ds/": Route(Target.DURABLE, ("GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"), parameters=None),
}

BETWEEN_NODES: Final[Mapping[str, Route]] = {"/nodes/": Route(Target.NODE, ("POST",), parameters=None)}
"""Not for clients, so no description of the API has it."""


def route_of(path: str) -> Route | None:
    """The route of a decoded path. None: it is not the API's. The name may be empty, which names nothing."""
    exact = EXACT.get(path)
    if exact is not None:
        return exact
    for beginning, route in BELOW.items():
        if path.startswith(beginning) or f"{path}/" == beginning:
            return msgspec.structs.replace(route, name=path[len(beginning) :])
    for beginning, route in BETWEEN_NODES.items():
        if path.startswith(beginning) and len(path) > len(beginning):  # without a name it is a page's
            return msgspec.structs.replace(route, name=path[len(beginning) :])
    return None


class PluginRoutes:
    """The routes of plug-ins, found by a request's path."""

    def __init__(self, routes: Iterable[HttpRoute] = ()) -> None:
        self._of_first: dict[str, list[tuple[re.Pattern[str], HttpRoute]]] = {}
        for route in routes:
            self._of_first.setdefault(route.first, []).append((route.pattern(), route))

    def find(self, method: str, path: str) -> Route | None:
        """The route of a decoded path. None: it is no plug-in's."""
        found: dict[str, tuple[HttpRoute, Mapping[str, str]]] = {}
        for pattern, route in self._of_first.get(path[1:].partition("/")[0], ()):
            matched = pattern.fullmatch(path)
            if matched is not None:
                found.setdefault(route.method, (route, matched.groupdict()))
        if not found:
            return None
        if "GET" in found:
            found.setdefault("HEAD", found["GET"])
        some, names = found.get(method) or next(iter(found.values()))
        methods = (*found, "OPTIONS")
        return Route(Target.PLUGIN, methods, plugin=some, names=names, parameters=some.parameters)
