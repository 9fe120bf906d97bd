"""The commands and queries that come from one worker: checked, in fair turns, then handed to the gate."""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import structlog

from huahuo.actors.plugins.actions import NOT_KNOWN, Action
from huahuo.actors.plugins.calls import Call, Refusal, Reply, error_reply
from huahuo.eventstore.model import CommandKey
from huahuo.transport.commands.answers import UNKNOWN
from huahuo.transport.protocol import incoming
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.protocol.incoming import Invalid, Parsed
from huahuo.transport.server.turns import CHARGED_S
from huahuo.transport.words import zh
from huahuo.transport.workers import failures
from huahuo.transport.workers.messages import Ask, Failed, Told
from huahuo.transport.workers.owner import Owner
from huahuo.transport.workers.parts import PartsKept

_log = structlog.get_logger(__name__)


class CallsOf:
    """See the module. `say` sends a message to the worker."""

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
            self._say(Failed(n, *failures.named(error)))
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
