"""The table of live connections: takeover, revocation, the ack side table, and the one timer.

Everything here runs on the loop and holds no lock. A connection that raises costs only itself.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol, runtime_checkable

import msgspec
import structlog

from huahuo.actors.plugins.principal import UserId
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.awake import AwakeAmbient
from huahuo.eventstore.port import Log
from huahuo.transport.access.revocations import Revocations, RevocationWatch, Revoked
from huahuo.transport.access.verified import Verified
from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.server.ack_collector import AckCollector
from huahuo.transport.server.ports import LiveConnection
from huahuo.transport.server.wheel import TURN_S, Wheel
from huahuo.transport.server.wheel import close as _close
from huahuo.transport.words import en

CONNECTIONS_PER_USER = 32

_log = structlog.get_logger(__name__)


@runtime_checkable
class HasCursors(Protocol):
    """A connection that knows its positions, for `Hub.clients`."""

    def cursors(self) -> Mapping[str, int]:
        """The last seq sent, per subscribed stream."""
        ...


class Elsewhere(Protocol):
    """The connections that other nodes have, and are told of those here (`huahuo.cluster.telling`)."""

    def joined(self, user: UserId, client: str) -> None:
        """A connection joined here; `client` may be empty."""
        ...

    def parted(self, user: UserId, client: str) -> None:
        """It is here no more."""
        ...

    def count(self, user: UserId, client: str) -> int:
        """The user's connections elsewhere, without that of `client`, which gives way to a newer one here."""
        ...


class StreamFact(msgspec.Struct, frozen=True):
    """A client's position in one stream: `seq` was sent last, and `lag` later events are not sent yet."""

    stream: str
    seq: int
    lag: int


class ClientFact(msgspec.Struct, frozen=True):
    """One authenticated connection, as admins see it."""

    user: str
    username: str
    client: str
    connected_at_ms: int
    expires_at_ms: int
    streams: tuple[StreamFact, ...]


class _Member(msgspec.Struct):
    """An authenticated connection, as the hub knows it."""

    verified: Verified
    client: str
    joined_at_ms: int


class Hub:
    """Implements `transport.server.ports.Hub`. `start` before the first connection, `stop` after the last."""

    def __init__(
        self,
        log: Log,
        ambient: Ambient,
        *,
        revocations: Revocations,
        connections_per_user: int = CONNECTIONS_PER_USER,
        turn_s: float = TURN_S,
        awake: AwakeAmbient | None = None,
    ) -> None:
        """`awake` is told when the wheel will turn. It is `ambient`, or the source of `ambient`'s clock."""
        self._log = log
        self._ambient = ambient
        self._per_user = connections_per_user
        self._wheel = Wheel(ambient, self._end_turn, turn_s=turn_s, awake=awake)
        self._members: dict[LiveConnection, _Member] = {}
        self._users: dict[UserId, dict[LiveConnection, None]] = {}
        self._acks = AckCollector(log)
        self.told_ack: Callable[[str, str, str, int], None] | None = None
        """Told of each ack: user, client, stream and seq."""
        self.elsewhere: Elsewhere | None = None
        """None: there are no other nodes."""
        self.turned_away: Callable[[], str] | None = None
        """Why clients that come now must go to another node. Administrators may stay. None: they need not."""
        self._watch = RevocationWatch(log, revocations, self._on_revoked)
        self._chores: set[asyncio.Task[None]] = set()

    @property
    def open_count(self) -> int:
        """Open WebSockets, authenticated or not."""
        return len(self._wheel)

    @property
    def joined_count(self) -> int:
        """Authenticated connections."""
        return len(self._members)

    @property
    def connections(self) -> tuple[LiveConnection, ...]:
        """Open WebSockets, authenticated or not, from the oldest on."""
        return self._wheel.connections

    def others(self, asking: tuple[UserId, str | None] | None) -> tuple[LiveConnection, ...]:
        """The authenticated connections, also those whose sockets other processes have.

        `asking`: without those of this user and client; none here has that name: without the user's that
        have none. None for the client: it is not known, so without all of this user.
        """
        if asking is None:
            return tuple(self._members)
        user_id, client = asking
        ours = {one: self._members[one].client for one in self._of(user_id)}
        name = client if client in ours.values() else ""
        stay = {one for one, its in ours.items() if client is None or its == name}
        return tuple(one for one in self._members if one not in stay)

    @property
    def guests(self) -> tuple[LiveConnection, ...]:
        """The connections of signed-in users who are not administrators."""
        return tuple(one for one, member in self._members.items() if not member.verified.principal.is_admin)

    @property
    def turning(self) -> bool:
        """Whether a timer waits for the next tick."""
        return self._wheel.turning

    async def start(self) -> None:
        """Load the revocations and start the timer."""
        await self._watch.start()
        self._wheel.start()

    async def stop(self) -> None:
        """Stop the timer and write the last acks."""
        self._wheel.stop()
        self._watch.stop()
        if self._chores:
            await asyncio.wait(self._chores)
        await self._acks.flush()

    def opened(self, connection: LiveConnection) -> None:
        """See `ports.Hub`."""
        self._wheel.enter(connection)

    def join(
        self, connection: LiveConnection, verified: Verified, client: str, *, ticked: bool = True
    ) -> bool:
        """See `ports.Hub`. `ticked` False: another process has the socket, and ticks it."""
        user_id = verified.principal.user_id
        if client:
            self.supersede(user_id, client)
        others = 0 if self.elsewhere is None else self.elsewhere.count(user_id, client)
        if 0 < self._per_user <= len(self._of(user_id)) + others:
            return False
        if ticked:
            self.opened(connection)
        self._members[connection] = _Member(verified, client, self._ambient.now_ms())
        self._users.setdefault(user_id, {})[connection] = None
        if self.elsewhere is not None:
            self.elsewhere.joined(user_id, client)
        if self.turned_away is not None and not verified.principal.is_admin:
            # It is told that it has signed in, and then where to go.
            asyncio.get_running_loop().call_soon(_close, connection, CloseCode.DRAINING, self.turned_away())
        return True

    def supersede(self, user_id: UserId, client: str) -> None:
        """Close the connections of a client that is connected anew, here or on another node."""
        for older in [one for one in self._of(user_id) if self._members[one].client == client]:
            self._part(older)
            _close(older, CloseCode.SUPERSEDED, en.TAKEN_OVER)

    def refreshed(self, connection: LiveConnection, verified: Verified) -> None:
        """See `ports.Hub`."""
        member = self._members.get(connection)
        if member is not None:
            member.verified = verified

    def leave(self, connection: LiveConnection) -> None:
        """See `ports.Hub`."""
        self._part(connection)
        self._wheel.leave(connection)

    def stirred(self, connection: LiveConnection) -> None:
        """See `ports.Hub`."""
        self._wheel.stirred(connection)

    def note_ack(self, user: str, client: str, stream: str, seq: int) -> None:
        """See `ports.Hub`."""
        self._acks.note(user, client, stream, seq)
        if self.told_ack is not None:
            self.told_ack(user, client, stream, seq)

    async def write_acks(self) -> None:
        """Write the acks that wait. None comes later from connections that have ended."""
        await self._acks.flush()

    def acked(self, client: str, stream: str, seq: int, user: str = "") -> asyncio.Future[None]:
        """A future that ends with the first ack of this client for `stream` at `seq` or later.

        `user`: only acks of this user count (`user/42`). It may have been sent already, as long as it is not
        written: later, `Log.acks` knows. Cancel it to end the waiting.
        """
        return self._acks.acked(client, stream, seq, user)

    def clients(self) -> list[ClientFact]:
        """Every authenticated connection, with the last seq sent and its lag for each stream."""
        return [self._fact(connection, member) for connection, member in self._members.items()]

    def _fact(self, connection: LiveConnection, member: _Member) -> ClientFact:
        cursors = connection.cursors() if isinstance(connection, HasCursors) else {}
        principal = member.verified.principal
        return ClientFact(
            user=principal.name,
            username=principal.username,
            client=member.client,
            connected_at_ms=member.joined_at_ms,
            expires_at_ms=member.verified.expires_at_ms,
            streams=tuple(
                StreamFact(stream, seq, max(0, self._log.head(stream).seq - seq))
                for stream, seq in cursors.items()
            ),
        )

    def _of(self, user_id: UserId) -> Mapping[LiveConnection, None]:
        return self._users.get(user_id, {})

    def _part(self, connection: LiveConnection) -> None:
        """Forget the user of a connection. It is still ticked until it leaves."""
        member = self._members.pop(connection, None)
        if member is None:
            return
        user_id = member.verified.principal.user_id
        ours = self._users[user_id]
        del ours[connection]
        if not ours:
            del self._users[user_id]
        if self.elsewhere is not None:
            self.elsewhere.parted(user_id, member.client)

    def _on_revoked(self, revoked: Revoked) -> None:
        for connection, member in tuple(self._members.items()):
            token = member.verified
            if revoked.covers(token.principal.user_id, token.jti, token.iat_ms):
                self._part(connection)
                _close(connection, CloseCode.REVOKED, en.TOKEN_TAKEN_BACK)

    def _end_turn(self) -> None:
        if self._chores:  # the last turn's chores still run: the log is slow, do not pile up
            return
        if self._acks.waiting:
            self._chore(self._acks.flush)
        if self._watch.behind:
            self._chore(self._watch.catch_up)

    def _chore(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = asyncio.create_task(_survive(work), name="hub chore")
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)


async def _survive(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    try:
        await work()
    except Exception:  # noqa: BLE001  the chore is tried again next turn
        _log.exception("hub_chore_failed")
