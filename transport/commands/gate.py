"""The command gate: every command passes here, takes effect at most once, and gets one answer.

While a command runs, a repeat of its id waits for it (`running_commands`). After the end, its answer is in
the log: a handler that appends events adds the record to its append, and the gate appends every other final
answer. If the caller goes away, its command is not cancelled.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

from huahuo.actors.entities.fairness import Fairness
from huahuo.actors.plugins.actions import NOT_KNOWN, Action, OneAppend
from huahuo.actors.plugins.calls import (
    Call,
    RefuseGrowth,
    Reply,
    error_reply,
    from_record,
)
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.cancelling import is_cancelled
from huahuo.eventstore.core.fair_executor import acting_for, acting_user
from huahuo.eventstore.model import Append, CommandRecord, Duplicate
from huahuo.eventstore.port import Log
from huahuo.transport.access.rights import may_call
from huahuo.transport.commands.answers import (
    BEHIND,
    BUSY,
    UNKNOWN,
    answer_of,
    append_of,
    error_code,
    fault,
    forbidden,
    outcome_of,
    recorded,
    repeated,
)
from huahuo.transport.commands.paced import Paced
from huahuo.transport.commands.running import Done, Running
from huahuo.transport.commands.running_commands import RUNNING_MAX, Observe, RunningCommands
from huahuo.transport.protocol.codes import recordable

type Settle = Callable[[], Awaitable[bool]]
"""Waits until this node has applied all that was ordered until now. False: it could not find out."""


class Gate(RunningCommands):
    """Implements `ports.CommandGate` over one log, whose `Hearer` it is.

    At most `running_max` calls run at once. `told` is called when the commands of one commit were answered.
    """

    def __init__(
        self,
        log: Log,
        ambient: Ambient,
        *,
        observe: Observe | None = None,
        running_max: int = RUNNING_MAX,
        settle: Settle | None = None,
        fairness: Fairness | None = None,
    ) -> None:
        """`settle` None: nobody else writes the log, so no refusal is for something not seen yet."""
        super().__init__(ambient, observe, running_max)
        self.refuse_growth: RefuseGrowth | None = None
        """Asked before each command, unless it frees room."""
        self._settle = settle
        self._log = log
        self._fairness = fairness

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

    def begin(self, call: Call[Any], spec: Action, done: Done) -> Running:
        """See `ports.CommandGate`."""
        # The name of an action that is not known is the client's, so it is counted nowhere.
        run = Running(call, done, None if spec is NOT_KNOWN else self._ambient.monotonic_s())
        first = None if call.key is None else self._by_key.get(call.key)
        if first is not None:
            return self._repeat(run, first)
        if len(self._by_key) + len(self._nameless) + self._queries >= self._running_max:
            return self._soon(run, error_reply(BUSY))
        if spec is NOT_KNOWN:
            return self._work(run, self._first_answer(call))
        if not may_call(call.principal, spec):
            return self._keep(run, forbidden(call))
        if self.refuse_growth is not None and not spec.frees:
            refusal = self.refuse_growth(call.principal.name, call.principal.is_admin)
            if refusal is not None:
                return self._soon(run, error_reply(refusal))
        seen = 0 if self._settle is None else self._log.position  # read before the handler decides
        try:
            work = spec.handler(call)
        except BaseException as error:  # noqa: BLE001  as of a coroutine
            return self._soon(run, fault(call, error, self._ambient))
        if isinstance(work, OneAppend):
            return self._append(run, work)
        if isinstance(work, Reply) and not self._may_be_behind(work):
            return self._keep(run, work)
        return self._work(run, self._executed(call, spec, work, seen))

    def _work(self, run: Running, work: Coroutine[Any, Any, Reply]) -> Running:
        """Answer by a task of its own: the command goes on if the connection vanishes."""
        call = run.call
        task = run.task = asyncio.get_running_loop().create_task(
            self._guarded(call, self._paced(call, work)), name=f"command {call.action}"
        )
        self._enter(run)
        task.add_done_callback(partial(self._task_ended, run))
        return run

    async def _first_answer(self, call: Call[Any]) -> Reply:
        """What an earlier version, or another node, answered to a command that is not known here.

        The refusal is not recorded: the next version may know the command.
        """
        assert call.key is not None, "without an id, a session refuses it"
        with acting_for(call.principal.name):
            record = await self._log.command(call.key)
            if record is None and self._settle is not None:
                if not await self._settle():
                    return error_reply(BEHIND)
                record = await self._log.command(call.key)
        return error_reply(UNKNOWN) if record is None else repeated(call, record)

    def record(self, call: Call[Any], reply: Reply, done: Done) -> Running:
        """See `ports.CommandGate`."""
        run = Running(call, done, None)
        return self._soon(run, reply) if call.key in self._by_key else self._keep(run, reply)

    async def _queried(self, call: Call[Any], spec: Action) -> Reply:
        began_s = self._ambient.monotonic_s()
        reply = await self._query(call, spec)
        if self._observe is not None:
            self._observe(spec.action, outcome_of(reply), self._ambient.monotonic_s() - began_s)
        return reply

    async def _query(self, call: Call[Any], spec: Action) -> Reply:
        if not may_call(call.principal, spec):
            return forbidden(call)
        if self.running >= self._running_max:
            return error_reply(BUSY)
        self._queries += 1
        user = call.principal.name
        try:
            if acting_user() == user:  # the caller is paced
                return await self._guarded(call, answer_of(spec.handler(call)))
            with acting_for(user):
                return await self._guarded(call, self._paced(call, answer_of(spec.handler(call))))
        finally:
            self._queries -= 1

    async def _executed(
        self, call: Call[Any], spec: Action, work: Awaitable[Reply] | Reply, seen: int
    ) -> Reply:
        with acting_for(call.principal.name):
            reply = await answer_of(work)
            if self._may_be_behind(reply):
                reply = await self._settled(call, spec, reply, seen)
        kept = self._record_of(call, reply)
        return reply if kept is None else recorded(await self._log.append(kept), reply)

    def _may_be_behind(self, reply: Reply) -> bool:
        """Whether this refuses a command, maybe only since this node has not applied all that was ordered."""
        if self._settle is None or reply.recorded:
            return False
        code = error_code(reply)
        return bool(code) and recordable(code)

    async def _settled(self, call: Call[Any], spec: Action, refusal: Reply, seen: int) -> Reply:
        """The answer to a command that was refused when the log was at `seen` here."""
        assert self._settle is not None, "asked by `_may_be_behind`"
        if not await self._settle():
            return error_reply(BEHIND)
        if self._log.position == seen:
            return refusal
        work = spec.handler(call)
        if not isinstance(work, OneAppend):
            return await answer_of(work)
        written = await self._log.append(append_of(call, work))
        if isinstance(written, Duplicate):
            return from_record(written.command)
        stream = work.events[-1].stream
        return Reply(work.body, (stream, written.seq_of(stream)), recorded=call.key is not None)

    def _append(self, run: Running, one: OneAppend) -> Running:
        """Write the events and the answer in one commit, then answer."""
        run.answers(one.body, one.events[-1].stream)
        return self._submit(run, append_of(run.call, one), one.events_bytes)

    def _keep(self, run: Running, reply: Reply) -> Running:
        """Answer, after the answer is in the log if it must be recorded and is not yet."""
        append = self._record_of(run.call, reply)
        if append is None:
            return self._soon(run, reply)
        run.reply = reply
        return self._submit(run, append)

    def _record_of(self, call: Call[Any], reply: Reply) -> Append | None:
        if call.key is None or reply.recorded or not recordable(error_code(reply)):
            return None
        at_stream, at_seq = reply.at or ("", 0)
        return Append(
            ts_ms=self._ambient.now_ms(),
            command=CommandRecord(call.key, call.fingerprint, reply.body, at_stream, at_seq),
            principal=call.principal.name,
            command_id=call.command_id,
        )

    def _submit(self, run: Running, append: Append, events_bytes: int | None = None) -> Running:
        try:
            self._log.submit_for(self, run, append, events_bytes=events_bytes)
        except Exception as error:  # noqa: BLE001  as of a coroutine
            return self._soon(run, fault(run.call, error, self._ambient))
        self._enter(run)
        return run

    def _paced(self, call: Call[Any], work: Awaitable[Reply]) -> Awaitable[Reply]:
        if self._fairness is None:
            return work
        return Paced(work, call.principal.name, self._fairness, self._ambient.monotonic_s)

    async def _guarded(self, call: Call[Any], work: Awaitable[Reply]) -> Reply:
        """The answer of `work`, or an error if it raised. No exception text reaches the client."""
        try:
            return await work
        except BaseException as error:  # each one has an answer
            if is_cancelled(error):
                raise
            return fault(call, error, self._ambient)
