"""The command gate: every command passes here, takes effect at most once, and gets one answer.

While a command runs, a repeat of its id waits for it. After the end, its answer is in the log: a handler that
appends events adds the record to its append, and the gate appends every other final answer. If the caller
goes away, its command is not cancelled.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import structlog

from huahuo.actors.actor.errors import HandlerCancelled, InboxFull
from huahuo.actors.entities.errors import Busy, Degraded
from huahuo.actors.plugins.actions import Action, OneAppend
from huahuo.actors.plugins.calls import BUSY_RETRY_S, Call, Refusal, Reply, error_reply, from_record
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.cancelling import cancel_all
from huahuo.eventstore.core.fair_executor import acting_for
from huahuo.eventstore.errors import (
    Closed,
    CommandMismatch,
    Conflict,
    Corrupt,
    QueueFull,
    TooLarge,
    Unavailable,
)
from huahuo.eventstore.model import Append, Appended, CommandKey, CommandRecord, Duplicate
from huahuo.eventstore.port import Log
from huahuo.transport.access.rights import may_call
from huahuo.transport.protocol.codes import ErrorCode, recordable

RUNNING_MAX = 10_000

type Observe = Callable[[str, str, float], None]
"""Called for every answer with the action, `ok`, an error code or `duplicate`, and the duration in s."""

type Done = Callable[[Reply | None], None]
"""Called once with the answer; with None if the service stops and cut the command short."""

_log = structlog.get_logger(__name__)
CANCEL_TIMEOUT_S = 1.0
_ERROR = b'{"type":"error"'

_BUSY = Refusal(ErrorCode.BUSY, "服务繁忙，请稍后以相同的 id 重试", retry_s=BUSY_RETRY_S)
_UNAVAILABLE = Refusal(ErrorCode.UNAVAILABLE, "结果未知，请以相同的 id 重试")
_CORRUPT = Refusal(ErrorCode.CORRUPT, "所需数据已损坏，请联系管理员")
_MISMATCH = Refusal(ErrorCode.INVALID_FIELD, "该 id 已用于另一条命令", "id: used before with another content")
_TOO_LARGE = Refusal(ErrorCode.TOO_LARGE, "内容过大，未作任何更改")
_FORBIDDEN = Refusal(ErrorCode.FORBIDDEN, "需要管理员权限")
_KEY_FORBIDDEN = Refusal(ErrorCode.FORBIDDEN, "该密钥没有此权限", "this API key has no right to it")


class _Running(msgspec.Struct):
    """A command that has not ended. `others`: how repeats of it want to hear its answer."""

    fingerprint: bytes
    work: asyncio.Future[Any]
    others: list[Done] = []


class _Code(msgspec.Struct):
    code: str


def outcome_of(reply: Reply) -> str:
    """`duplicate`, the code of an error, or `ok`."""
    if reply.duplicate:
        return "duplicate"
    return _error_code(reply) or "ok"


def _error_code(reply: Reply) -> str:
    """The code of a reply made by `error_reply`, else "". Large answers are not decoded."""
    return msgspec.json.decode(reply.body, type=_Code).code if reply.body.startswith(_ERROR) else ""


class Gate:
    """Implements `ports.CommandGate` over one log. At most `running_max` calls run at once."""

    def __init__(
        self, log: Log, ambient: Ambient, *, observe: Observe | None = None, running_max: int = RUNNING_MAX
    ) -> None:
        self._log = log
        self._ambient = ambient
        self._observe = observe
        self._running_max = running_max
        self._works: set[asyncio.Future[Any]] = set()
        self._by_key: dict[CommandKey, _Running] = {}
        self._queries = 0

    @property
    def running(self) -> int:
        """How many commands and queries have begun and not ended."""
        return len(self._works) + self._queries

    @property
    def remembered(self) -> int:
        """How many commands a repeated one would be compared with in memory."""
        return len(self._by_key)

    async def execute(self, call: Call[Any], spec: Action) -> Reply:
        """See `ports.CommandGate`."""
        if spec.query:
            return await self._queried(call, spec)
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def done(reply: Reply | None) -> None:
            if answer.done():
                return
            if reply is None:
                answer.cancel()
            else:
                answer.set_result(reply)

        self.begin(call, spec, done)
        return await answer

    def begin(self, call: Call[Any], spec: Action, done: Done) -> asyncio.Future[Any]:
        """See `ports.CommandGate`."""
        began_s = self._ambient.monotonic_s()

        def answered(reply: Reply | None) -> None:
            if reply is not None and self._observe is not None:
                self._observe(spec.action, outcome_of(reply), self._ambient.monotonic_s() - began_s)
            done(reply)

        first = None if call.key is None else self._by_key.get(call.key)
        if first is not None:
            return self._repeat(call, first, answered)
        if self.running >= self._running_max:
            return _soon(answered, error_reply(_BUSY))
        if not may_call(call.principal, spec):
            return self._keep(call, _forbidden(call), answered)
        try:
            work = spec.handler(call)
        except Exception as error:  # noqa: BLE001  as of a coroutine
            return _soon(answered, self._fault(call, error))
        if isinstance(work, OneAppend):
            return self._append(call, work, answered)
        if isinstance(work, Reply):
            return self._keep(call, work, answered)
        # A task of its own: the command goes on if the connection vanishes.
        task = asyncio.get_running_loop().create_task(
            self._guarded(call, self._executed(call, work)), name=f"command {spec.action}"
        )
        return self._run(call, task, lambda ended: None if ended.cancelled() else ended.result(), answered)

    def record(self, call: Call[Any], reply: Reply, done: Done) -> asyncio.Future[Any]:
        """See `ports.CommandGate`."""
        if call.key in self._by_key:
            return _soon(done, reply)
        return self._keep(call, reply, done)

    async def drain(self, timeout_s: float) -> None:
        """Wait for running calls, then cancel them. A call that ignores the cancel is left behind."""
        tasks = set(self._works)
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=timeout_s)
        if stuck := await cancel_all(late, CANCEL_TIMEOUT_S):
            _log.error("commands_left_behind", count=stuck)

    async def _queried(self, call: Call[Any], spec: Action) -> Reply:
        began_s = self._ambient.monotonic_s()
        reply = await self._query(call, spec)
        if self._observe is not None:
            self._observe(spec.action, outcome_of(reply), self._ambient.monotonic_s() - began_s)
        return reply

    async def _query(self, call: Call[Any], spec: Action) -> Reply:
        if not may_call(call.principal, spec):
            return _forbidden(call)
        if self.running >= self._running_max:
            return error_reply(_BUSY)
        self._queries += 1
        try:
            with acting_for(call.principal.name):
                return await self._guarded(call, answer_of(spec.handler(call)))
        finally:
            self._queries -= 1

    def _repeat(self, call: Call[Any], first: _Running, done: Done) -> asyncio.Future[Any]:
        """Answer as the running execution, marked as a repeat if its answer is final."""
        if first.fingerprint != call.fingerprint:
            return _soon(done, error_reply(_MISMATCH))

        def hear(reply: Reply | None) -> None:
            if reply is not None and recordable(_error_code(reply)):
                reply = msgspec.structs.replace(reply, duplicate=True)
            done(reply)

        first.others = [*first.others, hear]
        return first.work

    async def _executed(self, call: Call[Any], work: Awaitable[Reply]) -> Reply:
        with acting_for(call.principal.name):
            reply = await work
        kept = self._record_of(call, reply)
        return reply if kept is None else _kept(await self._log.append(kept), reply)

    def _append(self, call: Call[Any], one: OneAppend, done: Done) -> asyncio.Future[Any]:
        """Write the events and the answer in one commit, then answer."""
        stream = one.events[-1].stream
        record = None
        if call.key is not None:
            record = CommandRecord(call.key, call.fingerprint, one.body, stream)
        append = Append(
            ts_ms=one.ts_ms,
            events=one.events,
            command=record,
            principal=call.principal.name,
            command_id=call.command_id,
            shred=one.shred,
        )

        def reply_of(written: Appended | Duplicate) -> Reply:
            if isinstance(written, Duplicate):
                return from_record(written.command)
            return Reply(one.body, (stream, written.events[-1].seq), recorded=record is not None)

        return self._submit(call, append, reply_of, done)

    def _keep(self, call: Call[Any], reply: Reply, done: Done) -> asyncio.Future[Any]:
        """Answer, after the answer is in the log if it must be recorded and is not yet."""
        append = self._record_of(call, reply)
        if append is None:
            return _soon(done, reply)
        return self._submit(call, append, lambda written: _kept(written, reply), done)

    def _record_of(self, call: Call[Any], reply: Reply) -> Append | None:
        if call.key is None or reply.recorded or not recordable(_error_code(reply)):
            return None
        at_stream, at_seq = reply.at or ("", 0)
        return Append(
            ts_ms=self._ambient.now_ms(),
            command=CommandRecord(call.key, call.fingerprint, reply.body, at_stream, at_seq),
            principal=call.principal.name,
            command_id=call.command_id,
        )

    def _submit(
        self,
        call: Call[Any],
        append: Append,
        reply_of: Callable[[Appended | Duplicate], Reply],
        done: Done,
    ) -> asyncio.Future[Any]:
        try:
            writing = self._log.submit(append)
        except Exception as error:  # noqa: BLE001  as of a coroutine
            return _soon(done, self._fault(call, error))

        def ended(written: asyncio.Future[Appended | Duplicate]) -> Reply | None:
            if written.cancelled():
                return None
            error = written.exception()
            if error is None:
                return reply_of(written.result())
            if isinstance(error, Exception):
                return self._fault(call, error)
            raise error

        return self._run(call, writing, ended, done)

    def _run[T](
        self,
        call: Call[Any],
        work: asyncio.Future[T],
        reply_of: Callable[[asyncio.Future[T]], Reply | None],
        done: Done,
    ) -> asyncio.Future[T]:
        """Let repeats of the call wait for `work`, and answer all when it is done."""
        key = call.key
        running = None if key is None else _Running(call.fingerprint, work)
        if key is not None and running is not None:
            self._by_key[key] = running
        self._works.add(work)

        def ended(ended_work: asyncio.Future[T]) -> None:
            self._works.discard(ended_work)
            if key is not None:
                del self._by_key[key]  # first: a fault in telling must not leave it running
            reply = reply_of(ended_work)
            done(reply)
            for hear in () if running is None else running.others:
                hear(reply)

        work.add_done_callback(ended)
        return work

    async def _guarded(self, call: Call[Any], work: Awaitable[Reply]) -> Reply:
        """The answer of `work`, or an error if it raised. No exception text reaches the client."""
        try:
            return await work
        except Exception as error:  # noqa: BLE001  each one has an answer
            return self._fault(call, error)

    def _fault(self, call: Call[Any], error: Exception) -> Reply:
        """The answer for an exception of a handler or of the log. No text of it reaches the client."""
        match error:
            case CommandMismatch():
                return error_reply(_MISMATCH)
            case TooLarge():
                return error_reply(_TOO_LARGE)
            case Corrupt():
                return error_reply(_CORRUPT)
            case Unavailable() | Closed() | Degraded() | HandlerCancelled():
                return error_reply(_UNAVAILABLE)
            case TimeoutError() | Busy() | InboxFull() | QueueFull() | Conflict():
                return error_reply(_BUSY)
        correlation_id = self._ambient.token(8)
        _log.error(
            "command_failed",
            action=call.action,
            command_id=call.command_id,
            principal=call.principal.name,
            correlation_id=correlation_id,
            exc_info=error,
        )
        return error_reply(Refusal(ErrorCode.INTERNAL, "服务器内部错误", correlation_id))


def _forbidden(call: Call[Any]) -> Reply:
    return error_reply(_FORBIDDEN if call.principal.rights is None else _KEY_FORBIDDEN)


def _soon(done: Done, reply: Reply) -> asyncio.Future[None]:
    """Give an answer that is there already, in the loop's next turn."""
    loop = asyncio.get_running_loop()
    told: asyncio.Future[None] = loop.create_future()
    told.add_done_callback(lambda _: done(reply))
    told.set_result(None)
    return told


def _kept(written: Appended | Duplicate, reply: Reply) -> Reply:
    return from_record(written.command) if isinstance(written, Duplicate) else reply


async def answer_of(work: Awaitable[Reply] | OneAppend | Reply) -> Reply:
    """What a handler answers that appends nothing by way of `OneAppend`. Raises TypeError: it does."""
    if isinstance(work, OneAppend):
        raise TypeError("only a command may append")
    return work if isinstance(work, Reply) else await work
