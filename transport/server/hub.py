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
from huahuo.eventstore.errors import Closed, Corrupt, Unavailable
from huahuo.eventstore.model import Ack
from huahuo.eventstore.port import Log
from huahuo.transport.access.revocations import Revocations, RevocationWatch, Revoked
from huahuo.transport.access.verified import Verified
from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.server.ports import LiveConnection
from huahuo.transport.server.wheel import TURN_S, Wheel
from huahuo.transport.server.wheel import close as _close
from huahuo.transport.words import en

CONNECTIONS_PER_USER = 32

ACKS_WAITING_MAX = 100_000
_ACKS_A_COMMIT = 1000
"""Acks are written once a turn of the wheel. A bound, because an event that is appended meanwhile waits for
this commit.
"""

_log = structlog.get_logger(__name__)

type _AckKey = tuple[str, str, str]
type _Place = tuple[str, str]
"""A client, and a stream."""


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

    @property
    def everybody(self) -> tuple[LiveConnection, ...]:
        """As `connections`, and the authenticated ones whose sockets other processes have."""
        return tuple(dict.fromkeys((*self._wheel.connections, *self._members)))

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


class AckCollector:
    """Acks on their way to the side table: the highest per (user, client, stream), written once a turn.

    A stored ack may be lower than the client's last one, never higher, and it never decreases.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._changed: dict[_AckKey, int] = {}
        self._saving: dict[_AckKey, int] = {}
        self._waiting: dict[_Place, dict[asyncio.Future[None], tuple[int, str]]] = {}

    @property
    def waiting(self) -> int:
        """How many acks changed since the last write."""
        return len(self._changed)

    def note(self, user: str, client: str, stream: str, seq: int) -> None:
        """Remember one ack. With 100,000 waiting for a log that does not write, new keys are dropped."""
        if self._waiting:
            for future, (wanted, of) in tuple(self._waiting.get((client, stream), {}).items()):
                if seq >= wanted and of in ("", user) and not future.done():
                    future.set_result(None)
        key = (user, client, stream)
        known = self._changed.get(key)
        if known is None and len(self._changed) >= ACKS_WAITING_MAX:
            return
        if known is None or seq > known:
            self._changed[key] = seq

    def acked(self, client: str, stream: str, seq: int, user: str = "") -> asyncio.Future[None]:
        """See `Hub.acked`."""
        future = asyncio.get_running_loop().create_future()
        for unsaved in (self._changed, self._saving):
            if any(
                one[1:] == (client, stream) and user in ("", one[0]) and known >= seq
                for one, known in unsaved.items()
            ):
                future.set_result(None)
                return future
        at = (client, stream)
        self._waiting.setdefault(at, {})[future] = seq, user
        future.add_done_callback(lambda ended: self._answered(at, ended))
        return future

    def _answered(self, at: _Place, future: asyncio.Future[None]) -> None:
        waiting = self._waiting[at]
        del waiting[future]
        if not waiting:
            del self._waiting[at]

    async def flush(self) -> None:
        """Write the changed acks, at most 1,000 a commit. Acks that the log refuses wait a turn."""
        self._saving = changed = self._changed
        self._changed = {}
        try:
            await self._save(changed)
        finally:
            self._saving = {}

    async def _save(self, changed: dict[_AckKey, int]) -> None:
        acks = [Ack(*key, seq) for key, seq in changed.items()]
        for start in range(0, len(acks), _ACKS_A_COMMIT):
            try:
                await self._log.save_acks(acks[start : start + _ACKS_A_COMMIT])
            except (Unavailable, Corrupt, Closed):
                for ack in acks[start:]:
                    self.note(ack.user, ack.client, ack.stream, ack.seq)
                _log.warning("acks_not_saved", count=len(acks) - start)
                return


async def _survive(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    try:
        await work()
    except Exception:  # noqa: BLE001  the chore is tried again next turn
        _log.exception("hub_chore_failed")
