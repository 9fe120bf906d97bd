"""What the owner's side of every worker uses, and the commands and queries that come from one worker.

A worker is told first what it needs (`Hello`). Its calls are checked and take fair turns, then go to the
gate. Long answers and states are kept while the worker fetches them part by part (`PartsKept`).
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import msgspec
import structlog

from huahuo.actors.entities.decider import Busy
from huahuo.actors.plugins.actions import NOT_KNOWN, Action, Registry
from huahuo.actors.plugins.calls import Call, Parted, Refusal, Reply, error_reply
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.model import LOG_STREAM, CommandKey
from huahuo.eventstore.port import Log
from huahuo.replay.feed import Feed
from huahuo.transport.access.door import AddressDoor
from huahuo.transport.access.rights import Verifier
from huahuo.transport.commands.gate import UNKNOWN, Gate
from huahuo.transport.load.fair_queueing import CHARGED_S, Turns
from huahuo.transport.load.metrics import Metrics
from huahuo.transport.protocol import incoming
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.protocol.incoming import Invalid, Parsed
from huahuo.transport.server.hub import Hub
from huahuo.transport.server.server import Server
from huahuo.transport.words import zh
from huahuo.transport.workers import channel
from huahuo.transport.workers.channel import ActionFacts, Ask, Failed, Hello, Told


class Manners(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is told of the settings. The limits in `settings` are those of one worker."""

    settings: TransportSettings
    dictionary: bytes
    language: str
    trusted_proxies: tuple[str, ...]
    tail_events_max: int
    tail_bytes_max: int
    log_level: str
    log_json: bool


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """The service that a worker serves sockets of."""

    log: Log
    feed: Feed
    registry: Registry
    gate: Gate
    hub: Hub
    door: AddressDoor
    verifier: Verifier
    server: Server
    metrics: Metrics
    ambient: Ambient
    fingerprint_key: bytes
    judges_others: bool
    manners: Manners

    def hello(self, number: int) -> Hello:
        """The first message to a worker."""
        registry, manners = self.registry, self.manners
        return Hello(
            number=number,
            settings=manners.settings,
            log_id=self.log.log_id,
            position=self.log.position,
            chain=self.log.head(LOG_STREAM).link,
            fingerprint_key=self.fingerprint_key,
            dictionary=manners.dictionary,
            language=manners.language,
            trusted_proxies=manners.trusted_proxies,
            tail_events_max=manners.tail_events_max,
            tail_bytes_max=manners.tail_bytes_max,
            actions=tuple(
                ActionFacts(spec.action, spec.query, spec.compressible) for spec in registry.commands.values()
            ),
            snapshots=tuple(registry.snapshots),
            judges=tuple(registry.judges),
            judges_others=self.judges_others,
            right_types=tuple(registry.right_types),
            words=registry.words.catalogue(),
            has_tongues=bool(registry.tongues),
            shared_log=self.feed.catch_up is not None,
            log_level=manners.log_level,
            log_json=manners.log_json,
        )


def share(settings: TransportSettings, workers: int) -> TransportSettings:
    """The limits of one of `workers`: bounds of memory and of the lobby are divided, so their sum holds."""
    if workers <= 1:
        return settings

    def part(whole: int, least: int = 1) -> int:
        return max(least, -(-whole // workers)) if whole else whole

    return msgspec.structs.replace(
        settings,
        unsent_bytes_max=part(settings.unsent_bytes_max, settings.unsent_bytes_per_connection),
        frame_cache_bytes_max=part(settings.frame_cache_bytes_max),
        unauthenticated_max=part(settings.unauthenticated_max),
        unauthenticated_per_address=part(settings.unauthenticated_per_address),
        lobby_bytes_max=part(settings.lobby_bytes_max),
        intake_bytes_max=part(settings.intake_bytes_max),
    )


KEPT_MAX: Final = 1024
"""Of one worker. The oldest is forgotten, and its client is told to ask again."""
_PIECES_BYTES: Final = 256 << 10


class _Kept:
    __slots__ = ("parted", "pieces", "user")

    def __init__(self, parted: Parted, user: str) -> None:
        self.parted = parted
        self.user = user
        self.pieces: Iterator[bytes] | None = None


class PartsKept:
    """Long answers and states that the owner keeps while a worker fetches them part by part.

    All methods belong to the loop's thread.
    """

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._made = 0
        self._kept: OrderedDict[int, _Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, parted: Parted, user: str) -> int:
        """Keep it until `release`; returns its number. `user` is charged for its parts."""
        self._made += 1
        self._kept[self._made] = _Kept(parted, user)
        if len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)
        return self._made

    def release(self, number: int) -> None:
        """It is not needed any more."""
        self._kept.pop(number, None)

    def clear(self) -> None:
        """The worker is gone."""
        self._kept.clear()

    async def part(self, number: int, start: int, bytes_max: int) -> tuple[bytes, int | None]:
        """See `Parted.part`. Raises Busy: it was forgotten."""
        kept = self._of(number)
        return await self._turns.slice(kept.user, partial(kept.parted.part, start, bytes_max))

    async def piece(self, number: int) -> bytes:
        """The next bytes of the whole, empty at the end. Raises Busy: it was forgotten."""
        kept = self._of(number)
        if kept.pieces is None:
            kept.pieces = kept.parted.pieces()
        made: list[bytes] = []
        size = 0
        while size < _PIECES_BYTES:
            piece = await self._turns.slice(kept.user, partial(next, kept.pieces, b""))
            if not piece:
                break
            made.append(piece)
            size += len(piece)
        return b"".join(made)

    def _of(self, number: int) -> _Kept:
        kept = self._kept.get(number)
        if kept is None:
            raise Busy("too many long answers are on their way")
        return kept


_log = structlog.get_logger(__name__)


class CallsOf:
    """The commands and queries that come from one worker: checked, in fair turns, then handed to the gate.

    `say` sends a message to the worker.
    """

    def __init__(self, owner: Owner, parts: PartsKept, say: Callable[[object], None]) -> None:
        self._owner = owner
        self._parts = parts
        self._say = say
        self._turns = owner.server.turns
        self._waiting: dict[str, deque[Ask]] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._letting: set[asyncio.Task[None]] = set()
        self._spent_s: dict[str, float] = {}
        self._gone = False

    @property
    def waiting(self) -> int:
        """Calls of users that owe time of the loop."""
        return sum(map(len, self._waiting.values()))

    def take(self, ask: Ask) -> None:
        """Answer a call, when it is its user's turn. Those of one user begin in the order they came."""
        user = ask.principal.name
        line = self._waiting.get(user)
        if line is not None:
            line.append(ask)
        elif self._turns.must_wait(user):
            self._waiting[user] = deque([ask])
            letting = asyncio.get_running_loop().create_task(self._let_in(user))
            self._letting.add(letting)
            letting.add_done_callback(self._letting.discard)
        else:
            self._begin(ask)

    def cancel(self, n: int) -> None:
        """The answer to a query is not wanted any more."""
        task = self._tasks.get(n)
        if task is not None:
            task.cancel()

    def settle(self) -> None:
        """Charge the users for what is not charged yet."""
        spent_s, self._spent_s = self._spent_s, {}
        for user, seconds in spent_s.items():
            self._turns.charge(user, seconds)

    def gone(self) -> None:
        """The worker is gone. Commands go on: leaving cancels none."""
        self._gone = True
        self.settle()
        for task in (*self._tasks.values(), *self._letting):
            task.cancel()
        for line in tuple(self._waiting.values()):
            for ask in line:
                if not self._is_query(ask):
                    self._begin(ask)
        self._waiting.clear()

    def _is_query(self, ask: Ask) -> bool:
        spec = self._owner.registry.commands.get(ask.action)
        return spec is None or spec.query

    async def _let_in(self, user: str) -> None:
        line = self._waiting[user]
        while line:
            await self._turns.fair(user)
            if line:
                self._begin(line.popleft())
        del self._waiting[user]

    def _begin(self, ask: Ask) -> None:
        began_s = self._owner.ambient.monotonic_s()
        try:
            self._answer(ask)
        except Exception:  # noqa: BLE001  whatever it was, the client must hear something
            correlation_id = self._owner.ambient.token(8)
            _log.exception("command_failed", action=ask.action, correlation_id=correlation_id)
            self._tell(ask.n, error_reply(Refusal(ErrorCode.INTERNAL, zh.INTERNAL, correlation_id)))
        user = ask.principal.name
        spent_s = self._spent_s.get(user, 0.0) + self._owner.ambient.monotonic_s() - began_s
        if spent_s > CHARGED_S:
            self._spent_s.pop(user, None)
            self._turns.charge(user, spent_s)
        else:
            self._spent_s[user] = spent_s

    def _answer(self, ask: Ask) -> None:
        owner, tell = self._owner, partial(self._tell, ask.n)
        spec = owner.registry.commands.get(ask.action)
        if spec is None and ask.key is None:
            tell(error_reply(UNKNOWN))
            return
        spec = spec or NOT_KNOWN
        key = None if ask.key is None else CommandKey(ask.principal.name, *ask.key)
        params: Any = incoming.convert(Parsed(ask.action, None, ask.fields), spec.params)
        refused = isinstance(params, Invalid)
        call: Call[Any] = Call(
            principal=ask.principal,
            session=ask.session,
            action=ask.action,
            params=None if refused else params,
            command_id=ask.command_id,
            key=key,
            fingerprint=ask.fingerprint,
        )
        if refused:
            refusal = error_reply(Refusal(params.code, params.message, params.details))
            if key is None:
                tell(refusal)
            else:
                owner.gate.record(call, refusal, tell)
        elif spec.query:
            self._start(ask.n, self._query(ask.n, call, spec))
        else:
            owner.gate.begin(call, spec, tell)

    def _start(self, n: int, work: Any) -> None:
        if self._gone:
            work.close()
            return
        task = self._tasks[n] = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(lambda _ended: self._tasks.pop(n, None))

    async def _query(self, n: int, call: Call[Any], spec: Action) -> None:
        user = call.principal.name
        try:
            async with self._turns.turn(user):
                reply = await self._owner.gate.execute(call, spec)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001  it goes to the worker
            self._say(Failed(n, *channel.error_named(error)))
            return
        self._tell(n, reply, user)

    def _tell(self, n: int, reply: Reply | None, user: str = "") -> None:
        if self._gone:
            return
        if reply is None:
            self._say(Told(n, None))
            return
        parted = 0 if reply.parted is None else self._parts.keep(reply.parted, user)
        try:
            self._say(Told(n, reply.body, reply.at, reply.recorded, reply.duplicate, parted))
        except Exception:  # noqa: BLE001  a reply of a plug-in that is none
            _log.exception("reply_failed")
            self._say(Failed(n, "", "the reply cannot be sent"))


def raw(value: object) -> msgspec.Raw:
    """The value of an `Answer`."""
    return msgspec.Raw(msgspec.msgpack.encode(value))
