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
from huahuo.actors.plugins.actions import Action
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
from huahuo.eventstore.model import Append, CommandKey, CommandRecord, Duplicate
from huahuo.eventstore.port import Log
from huahuo.transport.protocol.codes import ErrorCode, recordable

RUNNING_MAX = 10_000

type Observe = Callable[[str, str, float], None]
"""Called for every answer with the action, `ok`, an error code or `duplicate`, and the duration in s."""

_log = structlog.get_logger(__name__)
CANCEL_TIMEOUT_S = 1.0
_ERROR = b'{"type":"error"'

_BUSY = Refusal(ErrorCode.BUSY, "服务繁忙，请稍后以相同的 id 重试", retry_s=BUSY_RETRY_S)
_UNAVAILABLE = Refusal(ErrorCode.UNAVAILABLE, "结果未知，请以相同的 id 重试")
_CORRUPT = Refusal(ErrorCode.CORRUPT, "所需数据已损坏，请联系管理员")
_MISMATCH = Refusal(ErrorCode.INVALID_FIELD, "该 id 已用于另一条命令", "id: used before with another content")
_TOO_LARGE = Refusal(ErrorCode.TOO_LARGE, "内容过大，未作任何更改")
_FORBIDDEN = Refusal(ErrorCode.FORBIDDEN, "需要管理员权限")


class _Running(msgspec.Struct, frozen=True):
    fingerprint: bytes
    task: asyncio.Task[Reply]


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
    """Implements `api.Commands` over one log. At most `running_max` calls run at once."""

    def __init__(
        self, log: Log, ambient: Ambient, *, observe: Observe | None = None, running_max: int = RUNNING_MAX
    ) -> None:
        self._log = log
        self._ambient = ambient
        self._observe = observe
        self._running_max = running_max
        self._tasks: set[asyncio.Task[Reply]] = set()
        self._by_key: dict[CommandKey, _Running] = {}
        self._queries = 0

    @property
    def running(self) -> int:
        """How many commands and queries have begun and not ended."""
        return len(self._tasks) + self._queries

    @property
    def remembered(self) -> int:
        """How many commands a repeated one would be compared with in memory."""
        return len(self._by_key)

    async def execute(self, call: Call[Any], spec: Action) -> Reply:
        """See `api.Commands`."""
        started_s = self._ambient.monotonic_s()
        reply = await (self._query(call, spec) if spec.query else self._command(call, spec))
        if self._observe is not None:
            self._observe(spec.action, outcome_of(reply), self._ambient.monotonic_s() - started_s)
        return reply

    async def record(self, call: Call[Any], reply: Reply) -> Reply:
        """Record an answer that was found without a handler (a field has the wrong type).

        Returns the answer for the client: `reply`, or the first answer if the id was used before.
        """
        if call.key in self._by_key:
            return reply
        return await self._guarded(call, self._kept(call, reply))

    async def drain(self, timeout_s: float) -> None:
        """Wait for running calls, then cancel them. A call that ignores the cancel is left behind."""
        tasks = set(self._tasks)
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=timeout_s)
        if stuck := await cancel_all(late, CANCEL_TIMEOUT_S):
            _log.error("commands_left_behind", count=stuck)

    async def _query(self, call: Call[Any], spec: Action) -> Reply:
        if spec.admin and not call.principal.is_admin:
            return error_reply(_FORBIDDEN)
        if self.running >= self._running_max:
            return error_reply(_BUSY)
        self._queries += 1
        try:
            with acting_for(call.principal.name):
                return await self._guarded(call, spec.handler(call))
        finally:
            self._queries -= 1

    async def _command(self, call: Call[Any], spec: Action) -> Reply:
        first = self._by_key.get(call.key) if call.key is not None else None
        if first is not None:
            return await self._repeated(call, first)
        if self.running >= self._running_max:
            return error_reply(_BUSY)
        # Its own task, so that the command goes on if the connection vanishes.
        task = asyncio.create_task(
            self._guarded(call, self._executed(call, spec)), name=f"command {spec.action}"
        )
        self._tasks.add(task)
        if call.key is not None:
            self._by_key[call.key] = _Running(call.fingerprint, task)
        task.add_done_callback(lambda done: self._ended(done, call.key))
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Reply], key: CommandKey | None) -> None:
        self._tasks.discard(task)
        if key is not None:
            self._by_key.pop(key, None)

    async def _repeated(self, call: Call[Any], first: _Running) -> Reply:
        """The answer of the running execution, marked as a repeat if it is final."""
        if first.fingerprint != call.fingerprint:
            return error_reply(_MISMATCH)
        reply = await asyncio.shield(first.task)
        return msgspec.structs.replace(reply, duplicate=True) if recordable(_error_code(reply)) else reply

    async def _executed(self, call: Call[Any], spec: Action) -> Reply:
        if spec.admin and not call.principal.is_admin:
            return await self._kept(call, error_reply(_FORBIDDEN))
        with acting_for(call.principal.name):
            reply = await spec.handler(call)
        return await self._kept(call, reply)

    async def _kept(self, call: Call[Any], reply: Reply) -> Reply:
        """The answer, after it is in the log if it must be recorded and is not yet."""
        if call.key is None or reply.recorded or not recordable(_error_code(reply)):
            return reply
        at_stream, at_seq = reply.at or ("", 0)
        record = CommandRecord(call.key, call.fingerprint, reply.body, at_stream, at_seq)
        appended = await self._log.append(
            Append(
                ts_ms=self._ambient.now_ms(),
                command=record,
                principal=call.principal.name,
                command_id=call.command_id,
            )
        )
        return from_record(appended.command) if isinstance(appended, Duplicate) else reply

    async def _guarded(self, call: Call[Any], work: Awaitable[Reply]) -> Reply:
        """The answer of `work`, or an error if it raised. No exception text reaches the client."""
        try:
            return await work
        except CommandMismatch:
            return error_reply(_MISMATCH)
        except TooLarge:
            return error_reply(_TOO_LARGE)
        except Corrupt:
            return error_reply(_CORRUPT)
        except (Unavailable, Closed, Degraded, HandlerCancelled):
            return error_reply(_UNAVAILABLE)
        except (TimeoutError, Busy, InboxFull, QueueFull, Conflict):
            return error_reply(_BUSY)
        except Exception:  # noqa: BLE001  every exception of a handler becomes `internal`
            correlation_id = self._ambient.token(8)
            _log.exception(
                "command_failed",
                action=call.action,
                command_id=call.command_id,
                principal=call.principal.name,
                correlation_id=correlation_id,
            )
            return error_reply(Refusal(ErrorCode.INTERNAL, "服务器内部错误", correlation_id))
