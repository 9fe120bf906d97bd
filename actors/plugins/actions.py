"""The actions, snapshots, event types, HTTP routes and tongues of all plug-ins and of the service.

A handler of an HTTP route is called after the host has signed the client in, applied its limits and read
the body (docs/plugins.md). A tongue translates for clients of another program: a client that offers no
subprotocol and whose first message a tongue knows is served through its interpreter. Sign-in, rights,
limits and delivery stay the host's, and an interpreter hears only messages of docs/protocol.md.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal, NamedTuple, Protocol, runtime_checkable

import msgspec
from msgspec import Meta

from huahuo.actors.plugins import zh
from huahuo.actors.plugins.calls import Call, Parted, Principal, Reply
from huahuo.actors.plugins.words import Language, Words
from huahuo.eventstore.limits import BROWSER_INT_MAX
from huahuo.eventstore.model import NewEvent
from huahuo.replay.list_window import ListRange

type Message = Mapping[str, Any]


class Understood(NamedTuple):
    """What one message of the client comes to.

    `asked`: messages of the protocol (`action`, …), in order. `said`: answers that need nothing of the host.
    """

    asked: Sequence[Message] = ()
    said: Sequence[Message] = ()


class Interpreter(Protocol):
    """Translates for one connection. A fault in it ends the connection."""

    @property
    def unchanged(self) -> tuple[bytes, ...]:
        """Messages to the client whose text begins like this are sent as they are."""
        ...

    def hear(self, message: object, now_s: float) -> Understood:
        """A message came, as decoded from JSON. None: it was none."""
        ...

    def say(self, message: Message, now_s: float) -> Sequence[Message]:
        """What the client is told for a message of the protocol."""
        ...

    def close_code(self, code: int) -> int:
        """The code to close with in place of one of docs/protocol.md 10."""
        ...


@runtime_checkable
class SaysTooLarge(Protocol):
    """What an `Interpreter` may have too. Without it, a message that is too large is closed for only."""

    def too_large(self, bytes_max: int) -> Sequence[Message]:
        """What a signed-in client is told before the close, if a message has more than `bytes_max`."""
        ...


class Tongue(Protocol):
    """One other language."""

    def interpreter(self, first: Message) -> Interpreter | None:
        """An interpreter for a client that begins with this message, None if it speaks another language."""
        ...


WAIT_S_MAX: Final = 60.0
_TEMPLATE: Final = re.compile(r"\{([a-z_]+)(:int)?\}")
_SHAPE: Final = re.compile(r"/[a-z0-9_-]+(?:/(?:[A-Za-z0-9_.-]+|\{[a-z_]+(?::int)?\}))*")
_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
RESERVED: Final = frozenset(
    {
        *("streams", "commands", "ds", "seen", "publish", "acks", "ticket", "login", "who", "ws"),
        *("healthz", "readyz", "metrics", "assets", "client", "console", "mail-frame", "accounts", "setup"),
        *("nodes", "lists"),
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
        """The user of the request's token. Raises HttpRefused if there is none."""
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


type Id = Annotated[int, Meta(ge=-BROWSER_INT_MAX, le=BROWSER_INT_MAX)]
"""The number of something, as a field of a command."""


CONNECTION_ACTIONS: Final = frozenset(
    {
        *("ack", "authenticate", "heartbeat", "heartbeat_response"),
        *("follow", "present", "subscribe", "unfollow", "unsubscribe"),
    }
)
"""Each connection answers these itself, so nobody else can have them."""
SERVICE_ACTIONS: Final = frozenset(
    {
        *("audit", "audit_record", "compact", "get_clients", "get_nodes", "publish"),
        *("remove_node", "revoke", "shred"),
        *("get_projections", "pause_projection", "resume_projection", "retry_projection"),
        "rebuild_projection",
        *("list_users", "add_user", "set_password", "disable_user", "enable_user", "remove_user"),
        *("change_password", "renew_token", "sign_out_everywhere"),
        *("add_key", "list_keys", "revoke_key"),
        *("get_usage", "get_storage", "set_quota", "erase_user"),
        *("set_registration", "pause_webhook", "resume_webhook", "change_webhook_secret"),
        *("add_webhook", "list_webhooks", "get_webhook_letters", "retry_webhook", "remove_webhook"),
    }
)
"""Those that the service registers itself, with or without plug-ins."""


class OneAppend(msgspec.Struct, frozen=True):
    """All that a command does, if it is one append: events, and `body`, the answer when they are durable.

    The service writes it together with the command's record, and answers with the last event's place. Such a
    command costs a fifth of one that is a coroutine.

    `events_bytes`: of all bodies, if the handler has checked each event against the log's limits.
    """

    ts_ms: int
    events: tuple[NewEvent, ...]
    body: bytes
    shred: tuple[str, ...] = ()
    events_bytes: int | None = None


type Handler = Callable[[Call[Any]], Awaitable[Reply] | OneAppend | Reply]
"""Answers one call. A refusal is a Reply made by `error_reply`; an exception becomes `internal`."""

type SnapshotOf = Callable[[str], Awaitable[tuple[int, bytes | Parted]]]
"""(seq, state as a JSON object) of a stream, for PROTOCOL 4's `snapshot`."""


type MayRead = Callable[[str, Principal], Awaitable[bool | None]]
"""Whether a user may read this stream now. None: nobody can say it."""


class LiveList(msgspec.Struct, frozen=True):
    """A list of rows that clients may follow.

    `fields`: the struct of what a client gives, None if it gives nothing. `ask` says which rows this user
    may have; None: none. It may raise what the application's function raises. `row`: the annotation of the
    values, `Any` if it is not said.
    """

    name: str
    fields: type[msgspec.Struct] | None
    ask: Callable[[Principal, msgspec.Struct | None], ListRange | None]
    row: Any = Any


class Action(msgspec.Struct, frozen=True):
    """One registered action. `query`: it is executed again for a repeated id and never recorded.

    `admin`: for administrators only.
    `signed_in`: refused to API keys, because it gives access or changes it.
    `frees`: also executed when there is no room for more: it frees some, or needs little.
    `compressible`: its replies may be compressed. Only for replies without secrets: when a secret is
    compressed together with text that an attacker chose, the length reveals it (CRIME).
    `place`: where and what it is, as `shop.py:12: class Place(Command)`, to say of which there are two.
    """

    action: str
    params: type
    handler: Handler
    query: bool = False
    admin: bool = False
    compressible: bool = False
    signed_in: bool = False
    frees: bool = False
    place: str = ""


def _not_known(_call: Call[Any]) -> Reply:
    raise LookupError("the gate looks the answer up")


NOT_KNOWN: Final = Action("", dict, _not_known)
"""Stands for every action that the service does not know. An earlier version may have known it: a repeat of
what that executed gets its first answer."""


class Registry:
    """The actions, snapshots and event types of the service. Filled before the server starts."""

    def __init__(self) -> None:
        self.commands: dict[str, Action] = {}
        self.snapshots: dict[str, SnapshotOf] = {}
        self.views: dict[str, SnapshotOf] = {}
        """By kind of stream, what those who follow its state see in place of its snapshot."""
        self.event_types: set[str] = set()
        self.guarded: set[str] = set()
        """Kinds of streams that only entities write."""
        self.judges: dict[str, MayRead] = {}
        """By kind of stream: who may read it. Streams of other kinds have rules of their own."""
        self.words = Words()
        """The texts for clients, from all catalogues."""
        self.right_types: set[str] = set()
        """Types of events after which readers are judged again."""
        self.tongues: list[Tongue] = []
        """Other languages on the WebSocket; the first that knows a client's first message serves it."""
        self.routes: dict[tuple[str, str], HttpRoute] = {}
        self.lists: dict[str, LiveList] = {}
        """What clients may follow, by name."""

    def route(self, route: HttpRoute) -> None:
        """Register a request over HTTP. Raises ValueError if it is answered already."""
        if (route.method, route.shape) in self.routes:
            raise ValueError(f"the route {route.method} {route.path} is registered already")
        self.routes[route.method, route.shape] = route

    def command(self, action: Action) -> None:
        """Register an action. Raises ValueError if its name is taken."""
        known = self.commands.get(action.action)
        if known is not None or action.action in CONNECTION_ACTIONS:
            other = "the service" if known is None else "a plug-in"
            if known is not None and known.place and action.place:
                other = known.place
            place = action.place or (known.place if known else "")
            why = f"the action {action.action!r} belongs to {other} already: choose another"
            raise ValueError(f"{place}: {why}" if place else why)
        self.commands[action.action] = action

    def snapshot(self, kind: str, of: SnapshotOf) -> None:
        """Register the source of snapshots for streams of one kind. Raises ValueError if it has one."""
        if kind in self.snapshots:
            raise ValueError(f"the streams {kind}/… have a snapshot already")
        self.snapshots[kind] = of

    def events(self, *types: str) -> None:
        """Reserve event types: `publish` refuses them."""
        self.event_types.update(types)
