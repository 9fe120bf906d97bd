"""The interfaces between the parts of the transport. Pure types, no behaviour.

The server asks the `Door`, then makes a connection (`LiveConnection`) for each socket. The connection is the
shell of a sans-I/O session. It uses the `Hub` (live connections, takeover, acks, the timer), the `Verifier`
(tokens) and the `CommandGate` (`huahuo.transport.commands.gate`).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from websockets.http11 import Request, Response

from huahuo.actors.plugins.actions import Action
from huahuo.actors.plugins.calls import Call, Reply
from huahuo.transport.access.verified import Verified
from huahuo.transport.server.fast_handshake import Greeting
from huahuo.transport.server.lobby import HasTransport
from huahuo.transport.server.tally import Tally


class LiveConnection(Protocol):
    """What the hub needs of one open WebSocket. Hashable by identity; all calls on the loop."""

    def tick(self, now_s: float) -> float:
        """Called by the hub's one timer about once a second (`now_s` = `Ambient.monotonic_s`).

        Returns until when it need not be called again, unless the connection calls `Hub.stirred`. Must not
        raise.
        """
        ...

    def wake_up(self, now_s: float) -> None:
        """Called in place of `tick` in the first turn after the process slept (`huahuo.eventstore.awake`).

        Sends a ping and closes no connection: bytes that came during the sleep are read until the next turn.
        """
        ...

    def close(self, code: int, reason: str) -> None:
        """Send `goaway`, close with `code`, abort the transport at a deadline. Idempotent; does not wait.

        `code` is a v1 code of PROTOCOL 10; a classic connection translates it.
        """
        ...


class Hub(Protocol):
    """The process-wide table of live connections, as a connection sees it."""

    def opened(self, connection: LiveConnection) -> None:
        """A WebSocket is open (not yet authenticated): it is ticked from now on."""
        ...

    def join(self, connection: LiveConnection, verified: Verified, client: str) -> bool | Awaitable[bool]:
        """The connection authenticated for the first time. `client` is "" if none was given.

        An older connection of the same user and (non-empty) client is closed with 4009 first.
        False: the user has too many connections (the caller closes with 4504; it did not join).
        """
        ...

    def refreshed(self, connection: LiveConnection, verified: Verified) -> None:
        """A joined connection presented a new token of the same user."""
        ...

    def leave(self, connection: LiveConnection) -> None:
        """The connection is gone (or closing). Idempotent, also for one that never joined."""
        ...

    def stirred(self, connection: LiveConnection) -> None:
        """A connection has something to do: it is ticked each second, until `tick` says that it rests."""
        ...

    def note_ack(self, user: str, client: str, stream: str, seq: int) -> None:
        """`client` of `user` (`user/42`) has processed `stream` up to `seq`. Written later, max wins."""
        ...


class Begun(Protocol):
    """A command that has begun."""

    def ended(self) -> asyncio.Future[None]:
        """Done when its answer was told. It is to be waited for, not cancelled."""
        ...


class CommandGate(Protocol):
    """Answers calls, and keeps the answers that a connection finds itself."""

    told: Callable[[], None] | None
    """Called when `done` was called for each command of one commit."""

    async def execute(self, call: Call[Any], spec: Action) -> Reply:
        """Answer a call. A command id has at most one effect, and a repeat gets the same answer."""
        ...

    def begin(self, call: Call[Any], spec: Action, done: Callable[[Reply | None], None]) -> Begun:
        """As `execute`, for commands: `done` gets the answer in a later turn of the loop.

        It gets None if the service stops and cut the command short.
        """
        ...

    def has_room(self, user: str) -> bool:
        """Whether so few commands of this user run that the next one may be looked at."""
        ...

    def record(self, call: Call[Any], reply: Reply, done: Callable[[Reply | None], None]) -> Begun:
        """Keep an answer that was found without a handler. `done` gets it, or the first one of its id."""
        ...


class Meter(Protocol):
    """Counts what connections do; see `huahuo.transport.server.metrics`."""

    @property
    def tally(self) -> Tally:
        """What was written to connections."""
        ...

    def delivered(self, events: int, size_bytes: int) -> None:
        """Frames with `events` events and `size_bytes` bytes were written."""
        ...

    def resumed(self, outcome: str) -> None:
        """A subscription began."""
        ...

    def cursor_ahead(self) -> None:
        """A client was ahead of the log, or its check differed."""
        ...

    def closed(self, code: int) -> None:
        """A connection ended."""
        ...

    def authenticated(self, result: str) -> None:
        """A token was checked."""
        ...


class InLobby(HasTransport, Protocol):
    """A socket that may wait in the lobby. `address`: set once the door has counted it."""

    address: str


class PlainHttp(Protocol):
    """Reads every request but the usual ones for a WebSocket (`transport.http.native`)."""

    def take_over(self, transport: asyncio.Transport, data: bytes, deadline_s: float) -> None:
        """Serve the socket. Its first request must have come by the deadline, on the lobby's clock."""
        ...

    def drain(self) -> None:
        """Let every connection end after the answer that it waits for."""
        ...


class Usher(Protocol):
    """Decides about new sockets in place of the server, which then only serves those that it is handed."""

    def spoke(self, greeting: Greeting, data: bytes) -> None:
        """The first bytes of a socket came. The usher calls `Server.welcome`, or gives the socket away."""
        ...


class Site(Protocol):
    """Answers plain HTTP (`huahuo.transport.server.site`)."""

    async def respond(self, request: Request, address: str, root: str = "") -> Response | None:
        """The answer to a client with this address (`Door.address`), None for a WebSocket upgrade.

        `root`: the path at which the client finds the service.
        """
        ...
