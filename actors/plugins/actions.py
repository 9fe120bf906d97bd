"""The actions, snapshots and event types that the service knows, from all plug-ins and from itself."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from huahuo.actors.plugins.calls import Call, Parted, Reply
from huahuo.actors.plugins.http import HttpRoute
from huahuo.actors.plugins.principal import Principal
from huahuo.actors.plugins.tongues import Tongue
from huahuo.actors.plugins.words import Words
from huahuo.eventstore.limits import BROWSER_INT_MAX
from huahuo.eventstore.model import NewEvent

type Id = Annotated[int, Meta(ge=-BROWSER_INT_MAX, le=BROWSER_INT_MAX)]
"""The number of something, as a field of a command."""


CONNECTION_ACTIONS: Final = frozenset(
    {"ack", "authenticate", "heartbeat", "heartbeat_response", "subscribe", "unsubscribe"}
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
