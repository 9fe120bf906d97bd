"""What the parts of the transport need of each other. Pure types, no behaviour.

The server makes a connection (`LiveConnection`) per socket and asks the `Door` first; the connection
is the shell of a sans-I/O session and uses the `Hub` (live connections, takeover, acks, the wheel),
the `Verifier` (tokens) and the command gate (`transport.api.Commands`).
"""

from collections.abc import Sequence
from enum import Enum
from typing import Any, Protocol

import msgspec

from transport.api import Call, CommandSpec, Principal, Reply


class Verified(msgspec.Struct, frozen=True):
    """A token that holds: who, until when (ms since 1970), and what a revocation matches.

    `jti` is "" and `iat_ms` None where the token has none.
    """

    principal: Principal
    expires_at_ms: int
    jti: str = ""
    iat_ms: int | None = None


class AuthFailure(msgspec.Struct, frozen=True):
    """A token that does not hold. `code`: `token_expired`, `token_invalid` or `token_revoked`.

    `reason` is for the operator's log; the client is told the code only.
    """

    code: str
    message: str
    reason: str = ""


class Verifier(Protocol):
    """Tells what a token is worth now. Pure and synchronous."""

    def verify(self, token: str, now_ms: int) -> Verified | AuthFailure:
        """Never raises, whatever `token` is."""
        ...


class LiveConnection(Protocol):
    """What the hub needs of one open WebSocket. Hashable by identity; all calls on the loop."""

    def tick(self, now_s: float) -> None:
        """Called about once a second by the hub's one timer (`now_s` = `Ambient.monotonic_s`).

        Cheap when nothing is due. Must not raise.
        """
        ...

    def wake_up(self, now_s: float) -> None:
        """Called in place of `tick` in the first turn after the process slept (`eventstore.awake`).

        Pings, and judges nobody: what came meanwhile is read until the next turn.
        """
        ...

    def close(self, code: int, reason: str) -> None:
        """Say `goaway`, close with `code`, abort the transport at a deadline. Idempotent, no waiting.

        `code` is a v1 code of PROTOCOL 10; a classic connection translates it.
        """
        ...


class Hub(Protocol):
    """The process-wide table of live connections, as a connection sees it."""

    def opened(self, connection: LiveConnection) -> None:
        """A WebSocket is open (not yet authenticated): it is ticked from now on."""
        ...

    def join(self, connection: LiveConnection, verified: Verified, client: str) -> bool:
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

    def note_ack(self, user: str, client: str, stream: str, seq: int) -> None:
        """`client` of `user` (`user/42`) has processed `stream` up to `seq`. Written behind, max wins."""
        ...


class Entry(Enum):
    """How a new connection from an address is received (PROTOCOL 6)."""

    ADMITTED = "admitted"
    OVER = "over"  # upgrade, then goaway and 4504; still counted until `leave`
    REFUSED = "refused"  # 429 instead of the upgrade; not counted


class Door(Protocol):
    """Limits per client address, for the server and the authentication."""

    def address(self, peer: str, forwarded_for: Sequence[str]) -> str:
        """The key under which a client counts: an IPv4 address or an IPv6 /64.

        `peer` is the socket's IP; `forwarded_for` the values of X-Forwarded-For, believed only from
        trusted proxies.
        """
        ...

    def peer_address(self, peer: str) -> str:
        """The key of a socket whose request is not read yet; "" for one of a trusted proxy."""
        ...

    def enter(self, address: str) -> Entry:
        """Count a connection in."""
        ...

    def leave(self, address: str) -> None:
        """Count it out (once for each `enter` that was not REFUSED)."""
        ...

    def auth_failed(self, address: str, now_s: float) -> float:
        """A failed authentication: seconds to hold the answer back (0 for the first four a minute)."""
        ...


class CommandGate(Protocol):
    """Answers calls; adds to `transport.api.Commands` what a connection finds out by itself."""

    async def execute(self, call: Call[Any], spec: CommandSpec) -> Reply:
        """See `transport.api.Commands`."""
        ...

    async def record(self, call: Call[Any], reply: Reply) -> Reply:
        """Keep an answer that was found before any handler ran; the first answer if there was one."""
        ...


class Meter(Protocol):
    """What is counted about connections; see `transport.metrics`."""

    def delivered(self, events: int, size_bytes: int) -> None:
        """Frames with so many events were written."""
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
        """A token was looked at."""
        ...
