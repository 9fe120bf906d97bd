"""What the owner's side of every worker uses, and the commands and queries that come from one worker.

A worker is told first what it needs (`Hello`). Its calls are checked and take fair turns, then go to the
gate. Long answers and states are kept while the worker fetches them part by part (`PartsKept`).
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterator
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
from huahuo.transport.load.fair_queueing import Turns
from huahuo.transport.load.metrics import Metrics
from huahuo.transport.protocol import incoming
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.protocol.incoming import Invalid, Parsed
from huahuo.transport.server.hub import Hub
from huahuo.transport.server.server import Server
from huahuo.transport.words import zh
from huahuo.transport.workers.channel import ActionFacts, Channel, Command, Hello, Manners, Told


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
        registry = self.registry
        return Hello(
            number=number,
            manners=self.manners,
            log_id=self.log.log_id,
            position=self.log.position,
            chain=self.log.head(LOG_STREAM).link,
            fingerprint_key=self.fingerprint_key,
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
    """The commands and queries that come from one worker: checked, in fair turns, then handed to the gate."""

    def __init__(self, owner: Owner, parts: PartsKept, channel: Channel) -> None:
        self._owner = owner
        self._parts = parts
        self._channel = channel
        self._turns = owner.server.turns
        self._waiting: dict[str, deque[tuple[int, Command]]] = {}
        self._letting: set[asyncio.Task[None]] = set()

    def take(self, n: int, asked: Command) -> None:
        """Answer the call `n`, when it is its user's turn. Those of one user begin in the order they came."""
        user = asked.principal.name
        line = self._waiting.get(user)
        if line is not None:
            line.append((n, asked))
        elif self._turns.must_wait(user):
            self._waiting[user] = deque([(n, asked)])
            letting = asyncio.get_running_loop().create_task(self._let_in(user))
            self._letting.add(letting)
            letting.add_done_callback(self._letting.discard)
        else:
            self._begin(n, asked)

    def end(self) -> None:
        """The worker is gone. Commands go on: leaving cancels none."""
        for task in self._letting:
            task.cancel()
        for line in tuple(self._waiting.values()):
            for n, asked in line:
                spec = self._owner.registry.commands.get(asked.action)
                if spec is not None and not spec.query:
                    self._begin(n, asked)
        self._waiting.clear()

    async def _let_in(self, user: str) -> None:
        line = self._waiting[user]
        while line:
            await self._turns.fair(user)
            if line:
                self._begin(*line.popleft())
        del self._waiting[user]

    def _begin(self, n: int, asked: Command) -> None:
        began_s = self._owner.ambient.monotonic_s()
        try:
            self._answer(n, asked)
        except Exception:  # noqa: BLE001  whatever it was, the client must hear something
            correlation_id = self._owner.ambient.token(8)
            _log.exception("command_failed", action=asked.action, correlation_id=correlation_id)
            self._tell(n, error_reply(Refusal(ErrorCode.INTERNAL, zh.INTERNAL, correlation_id)))
        self._turns.charge_since(asked.principal.name, began_s)

    def _answer(self, n: int, asked: Command) -> None:
        owner, tell = self._owner, partial(self._tell, n)
        spec = owner.registry.commands.get(asked.action)
        if spec is None and asked.key is None:
            tell(error_reply(UNKNOWN))
            return
        spec = spec or NOT_KNOWN
        key = None if asked.key is None else CommandKey(asked.principal.name, *asked.key)
        params: Any = incoming.convert(Parsed(asked.action, None, asked.fields), spec.params)
        refused = isinstance(params, Invalid)
        call: Call[Any] = Call(
            principal=asked.principal,
            session=asked.session,
            action=asked.action,
            params=None if refused else params,
            command_id=asked.command_id,
            key=key,
            fingerprint=asked.fingerprint,
        )
        if refused:
            refusal = error_reply(Refusal(params.code, params.message, params.details))
            if key is None:
                tell(refusal)
            else:
                owner.gate.record(call, refusal, tell)
        elif spec.query:
            self._channel.start(n, self._query(call, spec))
        else:
            owner.gate.begin(call, spec, tell)

    async def _query(self, call: Call[Any], spec: Action) -> Told:
        user = call.principal.name
        async with self._turns.turn(user):
            reply = await self._owner.gate.execute(call, spec)
        return self._told(reply, user)

    def _tell(self, n: int, reply: Reply | None) -> None:
        self._channel.answer(n, self._told(reply))

    def _told(self, reply: Reply | None, user: str = "") -> Told:
        if reply is None:
            return Told(None)
        parted = 0 if reply.parted is None else self._parts.keep(reply.parted, user)
        return Told(reply.body, reply.at, reply.recorded, reply.duplicate, parted, reply.position)
