"""The table of live connections: takeover, revocation, acks for the side table, and the one timer.

Everything here runs on the loop and holds no lock. A connection that raises costs only itself.

* `Wheel` ticks each connection once a turn, a tenth of them at a time. A connection may say that it rests
  until a time. Until then it is passed over, without a call and without a look at it: an idle one costs
  the comparison of two numbers a turn. All are ticked once when somebody has set the wall clock, by which
  tokens end.
* `AckCollector` keeps acks on their way to the side table: the highest per (user, client, stream), once a
  turn. A stored ack may be lower than the client's last one, never higher, and it never decreases.
* `Clients` answers `get_clients`, for admins: the connected clients, their positions and their lag.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, Protocol, runtime_checkable

import msgspec
import structlog

from huahuo.actors.plugins.actions import Action, Registry
from huahuo.actors.plugins.calls import Call, Reply, UserId, json_reply
from huahuo.eventstore.ambient import Ambient, AwakeAmbient, rfc3339
from huahuo.eventstore.errors import Closed, Corrupt, Unavailable
from huahuo.eventstore.model import Ack
from huahuo.eventstore.port import Log
from huahuo.transport.access.revocations import Revocations, RevocationWatch, Revoked
from huahuo.transport.access.rights import Verified
from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.wire.ports import LiveConnection
from huahuo.transport.words import en

BUCKETS: Final = 10
TURN_S: Final = 1.0
_NO_REST_S: Final = -math.inf
_SET_S: Final = 1.0
"""The wall clock was set if it and the monotonic one have parted by more than this."""

type _Bucket = dict[LiveConnection, float]
"""Until when each connection rests."""


class Wheel:
    """The one timer of all connections: each is ticked once a turn, a tenth of them at a time.

    Runs on the loop. A connection that raises costs only itself.
    """

    def __init__(
        self,
        ambient: Ambient,
        end_turn: Callable[[], object],
        *,
        turn_s: float = TURN_S,
        awake: AwakeAmbient | None = None,
    ) -> None:
        """`end_turn` is called when all were ticked once more. `awake` is told when the wheel will turn."""
        self._ambient = ambient
        self._end_turn = end_turn
        self._awake = awake
        self._slept_s = ambient.slept_s()
        self._to_wake = 0
        self._ahead_s = self._wall_clock_ahead_s()
        self._to_look = 0
        self._step_s = turn_s / BUCKETS
        self._buckets: list[_Bucket] = [{} for _ in range(BUCKETS)]
        self._bucket_of: dict[LiveConnection, _Bucket] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._turn = 0
        self._entered = 0

    def __len__(self) -> int:
        return len(self._bucket_of)

    @property
    def connections(self) -> tuple[LiveConnection, ...]:
        """All that are ticked, from the oldest on."""
        return tuple(self._bucket_of)

    @property
    def turning(self) -> bool:
        """Whether a timer waits for the next tick."""
        return self._timer is not None

    def start(self) -> None:
        """Begin to turn."""
        self._arm(asyncio.get_running_loop().time())

    def stop(self) -> None:
        """Turn no more. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._awake is not None:
            self._awake.expect(math.inf)

    def enter(self, connection: LiveConnection) -> None:
        """Tick it from now on. Idempotent."""
        if connection not in self._bucket_of:
            # The emptier of two, others each time: nearly as even as the emptiest of all, and cheaper.
            self._entered += 2
            one, other = self._buckets[self._entered % BUCKETS], self._buckets[(self._entered + 1) % BUCKETS]
            bucket = other if len(other) < len(one) else one
            self._bucket_of[connection] = bucket
            bucket[connection] = _NO_REST_S

    def leave(self, connection: LiveConnection) -> None:
        """Tick it no more. Idempotent."""
        bucket = self._bucket_of.pop(connection, None)
        if bucket is not None:
            del bucket[connection]

    def stirred(self, connection: LiveConnection) -> None:
        """Tick it in each turn, until it says that it rests. Nothing happens if it has left."""
        bucket = self._bucket_of.get(connection)
        if bucket is not None:
            bucket[connection] = _NO_REST_S

    def _arm(self, at_s: float) -> None:
        loop = asyncio.get_running_loop()
        # A loop that was held up skips the turns it missed instead of running them in a burst.
        step_s = self._ambient.routine_s(self._step_s)
        next_s = max(at_s + step_s, loop.time())
        self._timer = loop.call_at(next_s, self._tick, next_s)
        if self._awake is not None:
            self._awake.expect(step_s)

    def _tick(self, at_s: float) -> None:
        self._arm(at_s)
        now_s, slept_s = self._ambient.monotonic_s(), self._ambient.slept_s()
        if slept_s > self._slept_s:
            if self._awake is None or not self._awake.loop_was_held:  # else the log has `loop_blocked`
                _log.warning("process_slept", seconds=round(slept_s - self._slept_s, 1))
            self._slept_s, self._to_wake = slept_s, BUCKETS
        waking = self._to_wake > 0
        self._to_wake -= waking
        bucket = self._buckets[self._turn]
        every = self._clock_was_set() or waking
        for connection in [one for one, until_s in bucket.items() if every or until_s <= now_s]:
            try:
                if waking:
                    self.stirred(connection)
                    connection.wake_up(now_s)
                    continue
                until_s = connection.tick(now_s)
                if connection in bucket:  # else it has just left
                    bucket[connection] = until_s
            except Exception:  # noqa: BLE001  one connection's fault is not the others'
                _log.exception("connection_tick_failed")
                close_connection(connection, CloseCode.SERVER_FAULT, en.FAULT)
        self._turn = (self._turn + 1) % BUCKETS
        if self._turn == 0:
            self._end_turn()

    def _clock_was_set(self) -> bool:
        """Whether the wall clock was set, and these connections have not been ticked since."""
        ahead_s = self._wall_clock_ahead_s()
        if abs(ahead_s - self._ahead_s) > _SET_S:
            self._ahead_s, self._to_look = ahead_s, BUCKETS
        looking = self._to_look > 0
        self._to_look -= looking
        return looking

    def _wall_clock_ahead_s(self) -> float:
        return self._ambient.now_ms() / 1000 - self._ambient.monotonic_s()


def close_connection(connection: LiveConnection, code: CloseCode, reason: str) -> None:
    """Close a connection. One that raises is not the others' fault."""
    try:
        connection.close(code, reason)
    except Exception:  # noqa: BLE001  as above
        _log.exception("connection_close_failed", code=int(code))


ACKS_WAITING_MAX: Final = 100_000
_ACKS_A_COMMIT: Final = 1000
"""A bound, because an event that is appended meanwhile waits for this commit."""


type _AckKey = tuple[str, str, str]
type _Place = tuple[str, str]
"""A client, and a stream."""


class AckCollector:
    """Acks on their way to the side table: the highest per (user, client, stream), once a turn."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._changed: dict[_AckKey, int] = {}
        self._saving: dict[_AckKey, int] = {}
        self._waiting: dict[_Place, dict[asyncio.Future[None], tuple[int, str]]] = {}
        self._refused = False
        """Whether the log refused the last acks: told once, and not each turn until it takes them."""

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
                if not self._refused:
                    _log.warning("acks_not_saved", count=len(acks) - start)
                self._refused = True
                return
            self._refused = False


CONNECTIONS_PER_USER = 32

_log = structlog.get_logger(__name__)


@runtime_checkable
class HasCursors(Protocol):
    """A connection that knows its positions, for `Hub.clients`."""

    def cursors(self) -> Mapping[str, int]:
        """The last seq sent, per subscribed stream."""
        ...


class Elsewhere(Protocol):
    """The connections that other nodes have, and are told of those here (`huahuo.cluster.shared_facts`)."""

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
            asyncio.get_running_loop().call_soon(
                close_connection, connection, CloseCode.DRAINING, self.turned_away()
            )
        return True

    def supersede(self, user_id: UserId, client: str) -> None:
        """Close the connections of a client that is connected anew, here or on another node."""
        for older in [one for one in self._of(user_id) if self._members[one].client == client]:
            self._part(older)
            close_connection(older, CloseCode.SUPERSEDED, en.TAKEN_OVER)

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
                close_connection(connection, CloseCode.REVOKED, en.TOKEN_TAKEN_BACK)

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


ACTION = "get_clients"


class ClientsParams(msgspec.Struct, frozen=True):
    """A query without fields."""


class ClientRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One client. `node`: where it is connected, if there are several nodes."""

    user: str
    username: str
    client: str
    connected_at: str
    expires_at: str
    streams: tuple[StreamFact, ...]
    node: str = ""


class OfNodes(msgspec.Struct, frozen=True):
    """The clients of other nodes, and the nodes that did not answer."""

    node: str
    rows: Sequence[ClientRow]
    silent: Sequence[str]


type Look = Callable[[], Awaitable[object]]


class Clients:
    """The query `get_clients`: the connected clients, their positions and their lag. For admins.

    `look` is called first: it asks other processes where their clients stand.
    """

    def __init__(self, registry: Registry, hub: Hub, look: Look | None = None) -> None:
        """Offers the query at once."""
        self.others: Callable[[], Awaitable[OfNodes]] | None = None
        """Asks the other nodes. None: there are none."""
        self._hub = hub
        self._look = look
        registry.command(Action(ACTION, ClientsParams, self._answer, query=True, admin=True))

    async def here(self, node: str = "") -> list[ClientRow]:
        """The clients of this node."""
        if self._look is not None:
            await self._look()
        return [_row(fact, node) for fact in self._hub.clients()]

    async def _answer(self, _call: Call[ClientsParams]) -> Reply:
        if self.others is None:
            return json_reply({"type": "clients", "data": await self.here()})
        others = await self.others()
        rows = [*await self.here(others.node), *others.rows]
        return json_reply({"type": "clients", "data": rows, "silent": others.silent})


def _row(fact: ClientFact, node: str) -> ClientRow:
    return ClientRow(
        user=fact.user,
        username=fact.username,
        client=fact.client,
        connected_at=rfc3339(fact.connected_at_ms),
        expires_at=rfc3339(fact.expires_at_ms),
        streams=fact.streams,
        node=node,
    )
