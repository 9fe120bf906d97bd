"""The paths of the API and of plug-ins, what they take, and the OpenAPI 3.1 document made of that. Pure.

All other paths are the site's. The document is made of the tables that the server itself uses: paths come
from the routes here and from those of plug-ins, and bodies of commands from the types of their fields, so
nothing is described that is not served. `asked_of` and `told` are what a request and a refusal look like
to a plug-in that has a route.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from enum import Enum, auto
from typing import Any, Final

import msgspec

from huahuo.actors.plugins.actions import Action, HttpRequest, HttpRoute
from huahuo.eventstore.model import Secret
from huahuo.transport.http.messages import JSON, Answer, Request, worded
from huahuo.transport.http.stream_pages import LIMIT_MAX, WAIT_S_MAX
from huahuo.transport.protocol.problem import PROBLEM
from huahuo.transport.session.outgoing import Speech

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
    LIST = auto()
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
    "/lists/": Route(Target.LIST, _READ, parameters=None),
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


_PROBLEM: Final = ("Content-Type", PROBLEM)


def asked_of(request: Request, route: Route, address: str) -> HttpRequest:
    """A request as plug-ins get it, without its body and its user."""
    often = Counter(name for name, _ in request.headers)
    once = {name: value.strip() for name, value in request.headers if often[name] == 1}
    return HttpRequest(
        method=request.method, path=request.path, names=route.names, query=request.query, headers=once,
        address=address,
    )  # fmt: skip


def told(route: Route, answer: Answer, speech: Speech) -> Answer:
    """A refusal in the words of the plug-in whose route it is; any other answer as it is.

    The plug-in is given the text in the client's language.
    """
    if route.plugin is None or route.plugin.refuse is None or not answer.is_refusal:
        return answer
    said = route.plugin.refuse(msgspec.json.decode(worded(answer, speech).body))
    headers = tuple(("Content-Type", JSON) if header == _PROBLEM else header for header in answer.headers)
    body = msgspec.json.encode(said)
    return msgspec.structs.replace(answer, headers=headers, body=body, is_refusal=False)


type Json = dict[str, Any]

_SCHEMAS: Final = "#/components/schemas/"
_PROBLEM_SCHEMA: Final[Json] = {"$ref": f"{_SCHEMAS}Problem"}
_ANY_OBJECT: Final[Json] = {"type": "object"}
_TEXT: Final[Json] = {"type": "string"}
_SEQ: Final[Json] = {"type": "integer", "minimum": 0}
_WAIT: Final[Json] = {"type": "number", "minimum": 0, "maximum": WAIT_S_MAX}
_PUBLICATION: Final[Json] = {
    "type": "object",
    "required": ["stream", "type"],
    "properties": {"stream": _TEXT, "type": _TEXT, "fields": _ANY_OBJECT},
    "additionalProperties": False,
}
_PAGE: Final[Json] = {
    "type": "object",
    "required": ["type", "stream", "log", "outcome", "events", "next", "more"],
    "properties": {
        "type": {"const": "page"},
        "stream": _TEXT,
        "log": _TEXT,
        "outcome": {"enum": ["resumed", "fresh", "snapshot", "reset", "gap"]},
        "events": {"type": "array", "items": _ANY_OBJECT},
        "next": _SEQ,
        "more": {"type": "boolean"},
    },
}


def _query(name: str, schema: Json, text: str, *, required: bool = False) -> Json:
    return {"name": name, "in": "query", "required": required, "schema": schema, "description": text}


_IDEMPOTENT: Final[Json] = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "minLength": 1, "maxLength": 64},
    "description": "The command takes effect at most once under this id",
}


class _Said(msgspec.Struct, frozen=True):
    """What is said of an operation. `body`: the schema of a JSON body, `answer` that of the answer."""

    summary: str
    parameters: tuple[Json, ...] = ()
    body: Json | None = None
    answer: Json | None = None
    status: int = 200
    signed_in: bool = True


_OPERATIONS: Final[Mapping[Target, _Said]] = {
    Target.STREAM: _Said(
        "A page of a stream; with `Accept: text/event-stream` its events as they come",
        (
            _query("after", _TEXT, "N, <log>:N, -50, head, start or snapshot"),
            _query("limit", {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX}, "Events in a page"),
            _query("wait", _WAIT, "Seconds to wait if there is nothing new"),
            _query("ticket", _TEXT, "In place of a token, where only a URL can be given"),
        ),
        answer=_PAGE,
    ),
    Target.SEEN: _Said(
        "Whether a client has processed an event",
        (
            _query("stream", _TEXT, "The stream", required=True),
            _query("seq", _SEQ, "The event", required=True),
            _query("client", _TEXT, "The client installation", required=True),
            _query("wait", _WAIT, "Seconds to wait for it"),
        ),
        answer={"type": "object", "required": ["seen"], "properties": {"seen": {"type": "boolean"}}},
    ),
    Target.PUBLISH: _Said(
        "Publish one event, or up to 1,000 in one commit",
        (_IDEMPOTENT,),
        body={"oneOf": [_PUBLICATION, {"type": "array", "maxItems": 1000, "items": _PUBLICATION}]},
        answer=_ANY_OBJECT,
    ),
    Target.ACKS: _Said(
        "Say which events a client has processed",
        body={
            "type": "object",
            "required": ["cursors"],
            "properties": {
                "client": _TEXT,
                "cursors": {"type": "object", "additionalProperties": _SEQ, "maxProperties": 256},
            },
        },
        status=204,
    ),
    Target.TICKET: _Said(
        "A single-use sign-in for EventSource",
        answer={
            "type": "object",
            "required": ["ticket", "expires_in_s"],
            "properties": {"ticket": _TEXT, "expires_in_s": {"type": "number"}},
        },
        status=201,
    ),
    Target.WHO: _Said(
        "Who the token is",
        answer={
            "type": "object",
            "required": ["type", "user", "expires_at", "log", "heartbeat_s"],
            "properties": {
                "type": {"const": "who"},
                "user": _ANY_OBJECT,
                "expires_at": _TEXT,
                "log": _TEXT,
                "heartbeat_s": {"type": "number"},
            },
        },
    ),
    Target.LOGIN: _Said(
        "A token for a name and a password",
        body={
            "type": "object",
            "required": ["username", "password"],
            "properties": {"username": _TEXT, "password": {"type": "string", "format": "password"}},
        },
        answer={
            "type": "object",
            "required": ["token", "expires_at", "user"],
            "properties": {"token": _TEXT, "expires_at": _TEXT, "user": _ANY_OBJECT},
        },
        signed_in=False,
    ),
    Target.DURABLE: _Said("A durable stream: see the protocol Durable Streams"),
    Target.LIST: _Said(
        "A page of a live list, whose fields are parameters; with `Accept: text/event-stream` its changes",
        (
            _query("limit", {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX}, "Rows in a page"),
            _query("after", _TEXT, "`next` of the page before"),
            _query("ticket", _TEXT, "In place of a token, where only a URL can be given"),
        ),
        answer={
            "type": "object",
            "required": ["list", "log", "position", "of", "rows", "next"],
            "properties": {
                "list": _TEXT,
                "log": _TEXT,
                "position": _SEQ,
                "of": _TEXT,
                "rows": {"type": "array", "items": {"type": "array"}},
                "next": {"type": ["string", "null"]},
            },
        },
    ),
}
_NAME_OF: Final[Mapping[Target, str]] = {Target.STREAM: "stream", Target.DURABLE: "path", Target.LIST: "list"}


def openapi_document(
    version: str, actions: Mapping[str, Action], routes: Iterable[HttpRoute], *, durable: bool
) -> Json:
    """The document of a service with these actions and routes of plug-ins."""
    paths: dict[str, Json] = {}
    for path, route in EXACT.items():
        paths[path] = _operations(route.methods, _OPERATIONS[route.target], path)
    for beginning, route in BELOW.items():
        if route.target is Target.COMMAND or (route.target is Target.DURABLE and not durable):
            continue
        name = _NAME_OF[route.target]
        path = f"{beginning}{{{name}}}"
        paths[path] = {
            "parameters": [_named(name)],
            **_operations(route.methods, _OPERATIONS[route.target], name),
        }
    schemas: dict[str, Json] = {}
    for name, action in actions.items():
        paths[f"/commands/{name}"] = {"post": _command(action, _fields_of(name, action, schemas))}
    for made in routes:
        path = made.path.replace(":int}", "}")
        entry = paths.setdefault(path, {})
        entry[made.method.lower()] = _of_plugin(made, path)
    return {
        "openapi": "3.1.0",
        "info": {"title": "huahuo", "version": version, "license": {"name": "MIT", "identifier": "MIT"}},
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "A token or an API key"}
            },
            "schemas": {"Problem": _problem(), **schemas},
        },
    }


def _operations(methods: Iterable[str], said: _Said, name: str) -> Json:
    return {
        method.lower(): _operation(said, f"{method.lower()}{name}", with_body=method in ("POST", "PUT"))
        for method in methods
        if method not in ("OPTIONS", "HEAD")
    }


def _operation(said: _Said, id_: str, *, with_body: bool) -> Json:
    found: Json = {
        "operationId": id_.replace("/", "_"),
        "summary": said.summary,
        "responses": _responses(said.status, said.answer),
    }
    if said.parameters:
        found["parameters"] = list(said.parameters)
    if said.body is not None and with_body:
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": said.body}}}
    if not said.signed_in:
        found["security"] = []
    return found


def _command(action: Action, schema: Json) -> Json:
    who = " (administrators)" if action.admin else ""
    kind = "Query" if action.query else "Command"
    said = _Said(
        f"{kind} `{action.action}`{who}",
        () if action.query else (_IDEMPOTENT,),
        body=schema or _ANY_OBJECT,
        answer={"type": "object", "required": ["type"], "properties": {"type": _TEXT}},
    )
    made = _operation(said, f"command_{action.action}", with_body=True)
    made["requestBody"]["required"] = False
    return made


def _of_plugin(route: HttpRoute, path: str) -> Json:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    said = _Said(
        f"{route.method} {path}",
        tuple(_named(name) for name in names),
        body=_ANY_OBJECT if route.body_bytes_max else None,
        answer=_ANY_OBJECT,
        signed_in=route.access != "anyone",
    )
    return _operation(said, f"{route.method.lower()}{path.replace('{', '').replace('}', '')}", with_body=True)


def _fields_of(name: str, action: Action, schemas: dict[str, Json]) -> Json:
    """The schema of an action's fields. What it refers to is added to `schemas`.

    Applications may use one name for two structs: the second one's has the action's name in front.
    """
    for prefix in ("", f"{name}."):
        (schema,), parts = msgspec.json.schema_components(
            [action.params], schema_hook=_own_type, ref_template=f"{_SCHEMAS}{prefix}{{name}}"
        )
        named = {prefix + part: of for part, of in parts.items()}
        if all(schemas.get(part, of) == of for part, of in named.items()):
            break
    schemas.update(named)
    return schema


def _own_type(kind: type) -> Json:
    """The schema of a type that the library does not know: a secret is given as text, and never shown."""
    return {"type": "string", "format": "password", "writeOnly": True} if kind is Secret else {}


def _named(name: str) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": _TEXT}


def _responses(status: int, answer: Json | None) -> Json:
    made: Json = {"description": "Done"}
    if answer is not None:
        made["content"] = {"application/json": {"schema": answer}}
    problem = {
        "description": "Refused, with a reason (RFC 9457)",
        "content": {"application/problem+json": {"schema": _PROBLEM_SCHEMA}},
    }
    return {str(status): made, "default": problem}


def _problem() -> Json:
    return {
        "type": "object",
        "required": ["type", "title", "status", "code", "detail"],
        "properties": {
            "type": _TEXT,
            "title": _TEXT,
            "status": {"type": "integer"},
            "code": _TEXT,
            "detail": _TEXT,
            "retry_s": {"type": "number"},
        },
    }
