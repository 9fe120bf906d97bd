"""Requests over HTTP that a plug-in answers itself (docs/plugins.md). Pure.

The host has signed the client in, applied its limits and read the body before a handler is called.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, Literal, Protocol

import msgspec

from huahuo.actors.plugins import zh
from huahuo.actors.plugins.principal import Principal
from huahuo.actors.plugins.words import Language

WAIT_S_MAX: Final = 60.0
_TEMPLATE: Final = re.compile(r"\{([a-z_]+)(:int)?\}")
_SHAPE: Final = re.compile(r"/[a-z0-9_-]+(?:/(?:[A-Za-z0-9_.-]+|\{[a-z_]+(?::int)?\}))*")
_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
RESERVED: Final = frozenset(
    {
        *("streams", "commands", "ds", "seen", "publish", "acks", "ticket", "login", "who", "ws"),
        *("healthz", "readyz", "metrics", "assets", "client", "console", "mail-frame", "accounts", "setup"),
        "nodes",
    }
)
"""First parts of paths that the service keeps for itself."""

type Access = Literal["user", "admin", "anyone"]


def is_coded(content_encoding: str | None) -> bool:
    """Whether a body with this header is compressed: it is taken as it is only."""
    return (content_encoding or "identity").strip().lower() not in ("", "identity")


class HttpRefused(Exception):  # noqa: N818  it is said to the client
    """A handler's refusal. `code` is one of docs/protocol.md 6.2 or the plug-in's own, which is a 409.

    `status` replaces the status of the code; `retry_s` tells the client when to come back.
    """

    def __init__(
        self, code: str, detail: str, *, status: int | None = None, retry_s: float | None = None
    ) -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail
        self.status = status
        self.retry_s = retry_s

    @classmethod
    def of(cls, reply: Mapping[str, Any]) -> "HttpRefused":
        """The refusal for a reply of `HttpRequest.call` whose `type` is `error`."""
        text, details = str(reply.get("message", "")), reply.get("details")
        detail = f"{text} ({details})" if details else text
        return cls(str(reply["code"]), detail, retry_s=reply.get("retry_s"))


class HttpAnswer(msgspec.Struct, frozen=True):
    """A whole answer. Nobody may keep it, unless `headers` have a `Cache-Control`."""

    body: bytes = b""
    status: int = 200
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def json(cls, value: object, status: int = 200) -> "HttpAnswer":
        """An answer of JSON."""
        return cls(msgspec.json.encode(value), status)


class Caller(Protocol):
    """Calls actions for one request."""

    async def __call__(
        self, action: str, fields: Mapping[str, Any], command_id: str | None
    ) -> dict[str, Any]:
        """See `HttpRequest.call`."""
        ...


class HttpRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request that the host has admitted.

    `names`: the parts of the path that the route names. `headers`: those that came once, in lower case.
    `principal` is None for a client without a token, where the route takes `anyone`.
    """

    method: str
    path: str
    names: Mapping[str, str] = {}
    query: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}
    body: bytes = b""
    principal: Principal | None = None
    address: str = ""
    caller: Caller | None = None

    def __repr__(self) -> str:
        return f"HttpRequest({self.method} {self.path})"

    @property
    def user(self) -> Principal:
        """The user who asks. Raises HttpRefused if the request has no token."""
        if self.principal is None:
            raise HttpRefused("unauthenticated", zh.TOKEN_NEEDED)
        return self.principal

    def json[T](self, kind: type[T]) -> T:
        """The body as an object of this type. Raises HttpRefused: it is none."""
        if self.body and is_coded(self.headers.get("content-encoding")):
            raise HttpRefused("bad_message", zh.BODY_CODED, status=HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        try:
            return msgspec.json.decode(self.body or b"{}", type=kind)
        except msgspec.ValidationError as error:  # it names the field and the types, never a value
            raise HttpRefused("invalid_field", zh.FIELDS_WRONG.format(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise HttpRefused("bad_message", zh.BODY_NO_JSON) from None

    def wait_s(self, most_s: float = WAIT_S_MAX) -> float:
        """The seconds of the parameter `wait`, 0 without it. Raises HttpRefused: it is out of bounds."""
        text = self.query.get("wait") or "0"
        if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,6})?", text) or float(text) > most_s:
            raise HttpRefused("invalid_field", zh.WAIT_NEEDED.format(round(most_s)))
        return float(text)

    async def call(
        self, action: str, fields: Mapping[str, Any], *, command_id: str | None = None
    ) -> dict[str, Any]:
        """Do an action of the service as this user, with the checks and the record of any other command.

        With `command_id` it takes effect at most once. The result is the reply as clients get it; of a
        refusal, `type` is `error` (see `HttpRefused.of`).
        """
        self.user  # noqa: B018  a stranger calls nothing
        assert self.caller is not None, "the host gives one to each request"
        return await self.caller(action, fields, command_id)


type HttpHandler = Callable[[HttpRequest], Awaitable[HttpAnswer]]


class HttpRoute(msgspec.Struct, frozen=True, kw_only=True):
    """One method and path. `/mailboxes/{address}/code` has a named part; `{n:int}` takes digits only.

    `access`: `user` needs a valid token, `admin` one of an administrator, `anyone` none.
    `who` recognises a client by something other than a token. It is asked first, with an empty body.
    `refuse` makes the body of a refusal from the members of a problem (docs/http.md).
    `waits`: the answer may wait for something. It then counts as a connection of its address, is cancelled if
    the client leaves, and ends with 503 when the service stops.
    `parameters`: those that its query may have, any other one is refused; None: any.
    `language`: the only one of its client, whatever the browser prefers; None: the one that is asked for.
    """

    method: str
    path: str
    handler: HttpHandler
    access: Access = "user"
    body_bytes_max: int = 0
    waits: bool = False
    who: Callable[[HttpRequest], Principal | None] | None = None
    refuse: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    parameters: tuple[str, ...] | None = None
    language: Language | None = None

    def __post_init__(self) -> None:
        where = f"the route {self.method} {self.path}"
        if self.method not in _METHODS:
            raise ValueError(f"{where}: the method must be one of {', '.join(sorted(_METHODS))}")
        if not _SHAPE.fullmatch(self.path):
            raise ValueError(f"{where}: the path must be like /things/{{name}}, and its first part fixed")

    @property
    def first(self) -> str:
        """The first part of its path."""
        return self.path[1:].partition("/")[0]

    @property
    def shape(self) -> str:
        """Its path without the names: two routes with the same one answer the same requests."""
        return _TEMPLATE.sub(r"{\2}", self.path)

    def pattern(self) -> re.Pattern[str]:
        """Matches a decoded path; its groups are the named parts."""
        text, at = "", 0
        for found in _TEMPLATE.finditer(self.path):
            part = r"[0-9]{1,15}" if found[2] else r"[^/]+"
            text += f"{re.escape(self.path[at : found.start()])}(?P<{found[1]}>{part})"
            at = found.end()
        return re.compile(text + re.escape(self.path[at:]))
