"""The command gate: every command passes here, takes effect at most once, and gets one answer.

While a command runs, a repeat of its id waits for it. After the end, its answer is in
the log: a handler that appends events adds the record to its append, and the gate appends every other
final answer. If the caller goes away, its command is not cancelled. Refusals, what a fault is answered
with and what is recorded of an answer are pure functions.

Each step of a handler's coroutine is charged to the user that it works for (`Paced`). Where the handler
gives way to others (`await asyncio.sleep(0)`), it goes on once its user owes no more time than is free.
Elsewhere it never waits, so it may hold a lock over what it awaits, but not over giving way.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from functools import partial
from typing import Any, Final

import msgspec
import structlog

from huahuo.actors.actor.messages import HandlerCancelled, InboxFull
from huahuo.actors.domain.structs import Fault
from huahuo.actors.entities.decider import Busy, Degraded
from huahuo.actors.entities.entity import Fairness
from huahuo.actors.plugins.actions import NOT_KNOWN, Action, OneAppend
from huahuo.actors.plugins.calls import (
    BUSY_RETRY_S,
    Call,
    Refusal,
    RefuseGrowth,
    Reply,
    error_reply,
    from_record,
)
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.deadline import cancel_all, is_cancelled
from huahuo.eventstore.errors import (
    Closed,
    CommandMismatch,
    Conflict,
    Corrupt,
    QueueFull,
    TooLarge,
    Unavailable,
)
from huahuo.eventstore.executor import acting_for, acting_user
from huahuo.eventstore.model import Append, Appended, CommandKey, CommandRecord, Duplicate
from huahuo.eventstore.port import Log
from huahuo.transport.access.rights import may_call
from huahuo.transport.protocol.codes import ErrorCode, recordable
from huahuo.transport.words import en, zh

type Done = Callable[[Reply | None], None]
"""Called once with the answer; with None if the service stops and cut the command short."""


class Running:
    """A command that has not ended: who is to hear its answer, and what its answer will be.

    `done` hears the answer; `others` are repeats of the command, which hear it too.

    `began_s` None: it is not counted among the commands that were answered.
    """

    __slots__ = ("_body", "_ended", "_stream", "began_s", "call", "done", "others", "over", "reply", "task")

    def __init__(self, call: Call[Any], done: Done, began_s: float | None) -> None:
        self.call = call
        self.done = done
        self.began_s = began_s
        self.others: list[Running] | None = None
        self.over = False
        self.task: asyncio.Task[Reply] | None = None
        self.reply: Reply | None = None
        """The answer, if it is known before the append of its record."""
        self._body = b""
        self._stream = ""
        self._ended: asyncio.Future[None] | None = None

    def answers(self, body: bytes, stream: str) -> None:
        """The answer will be `body`, with the place of the append's last event, on `stream`."""
        self._body, self._stream = body, stream

    def reply_to(self, written: Appended | Duplicate) -> Reply:
        """The answer now that the append is durable."""
        if written.__class__ is Duplicate:
            return from_record(written.command)
        if self.reply is not None:
            return self.reply
        assert isinstance(written, Appended), "the other one is a duplicate"
        at, is_recorded = (self._stream, written.events[-1].seq), self.call.key is not None
        return Reply(self._body, at, recorded=is_recorded, position=written.position)

    def ended(self) -> asyncio.Future[None]:
        """Done when the answer was told. It is to be waited for, not cancelled."""
        if self._ended is None:
            self._ended = asyncio.get_running_loop().create_future()
            if self.over:
                self._ended.set_result(None)
        return self._ended

    def tell(self, reply: Reply | None) -> None:
        """Tell the answer."""
        try:
            self.done(reply)
        finally:
            if self._ended is not None and not self._ended.done():
                self._ended.set_result(None)


_CHARGED_S: Final = 0.0002
"""A charge costs 2 µs, so shorter steps are charged together."""


class Paced[T]:
    """A handler's coroutine, each step of which is charged to the user that it works for.

    To be awaited once.
    """

    __slots__ = ("_fairness", "_now_s", "_spent_s", "_user", "_waits", "_work")

    def __init__(
        self,
        work: Awaitable[T],
        user: str,
        fairness: Fairness,
        now_s: Callable[[], float],
        *,
        waits: bool = True,
    ) -> None:
        """`waits`: for its user to owe less. Without it, the work is only paid for."""
        self._waits = waits
        self._work = work
        self._user = user
        self._fairness = fairness
        self._now_s = now_s
        self._spent_s = 0.0

    def __await__(self) -> Generator[Any, Any, T]:
        """See `Awaitable`."""
        steps = self._work.__await__()
        error: BaseException | None = None
        try:
            while True:
                began_s = self._now_s()
                try:
                    awaited = next(steps) if error is None else steps.throw(error)
                except StopIteration as ended:
                    found: T = ended.value
                    return found
                finally:
                    self._charge(self._now_s() - began_s, _CHARGED_S)
                error = None
                try:
                    yield awaited
                    if awaited is None and self._waits:
                        yield from self._paid()
                except GeneratorExit:
                    steps.close()
                    raise
                except BaseException as thrown:  # noqa: BLE001  the work gets it, as if awaited itself
                    error = thrown
        finally:
            self._charge(0.0, 0.0)

    def _charge(self, spent_s: float, at_least_s: float) -> None:
        self._spent_s += spent_s
        if self._spent_s > at_least_s:
            spent_s, self._spent_s = self._spent_s, 0.0
            self._fairness.charge(self._user, spent_s)

    def _paid(self) -> Generator[Any, Any, None]:
        if not self._fairness.may_go(self._user):
            yield from self._fairness.paid(self._user).__await__()


_ERROR: Final = b'{"type":"error"'

BUSY = Refusal(ErrorCode.BUSY, zh.BUSY, retry_s=BUSY_RETRY_S)
_UNAVAILABLE = Refusal(ErrorCode.UNAVAILABLE, zh.OUTCOME_UNKNOWN)
BEHIND = Refusal(ErrorCode.UNAVAILABLE, zh.NODE_BEHIND, retry_s=BUSY_RETRY_S)
_CORRUPT = Refusal(ErrorCode.CORRUPT, zh.CORRUPT)
UNKNOWN = Refusal(ErrorCode.UNKNOWN_ACTION, zh.NO_SUCH_ACTION)
MISMATCH = Refusal(ErrorCode.INVALID_FIELD, zh.ID_IN_USE, f"id: {en.USED_BEFORE}")
_TOO_LARGE = Refusal(ErrorCode.TOO_LARGE, zh.CONTENT_TOO_LARGE)
_FORBIDDEN = Refusal(ErrorCode.FORBIDDEN, zh.ADMINS_ONLY)
_KEY_FORBIDDEN = Refusal(ErrorCode.FORBIDDEN, zh.NO_RIGHT_OF_KEY)


class _Code(msgspec.Struct):
    code: str


def outcome_of(reply: Reply) -> str:
    """`duplicate`, the code of an error, or `ok`."""
    if reply.duplicate:
        return "duplicate"
    return error_code(reply) or "ok"


def error_code(reply: Reply) -> str:
    """The code of a reply made by `error_reply`, else "". Large answers are not decoded."""
    return msgspec.json.decode(reply.body, type=_Code).code if reply.body.startswith(_ERROR) else ""


def refusal_of(error: BaseException) -> Refusal | None:
    """The refusal for an exception that says how things are. None: it is a fault."""
    match error:
        case CommandMismatch():
            return MISMATCH
        case TooLarge():
            return _TOO_LARGE
        case Corrupt():
            return _CORRUPT
        case Unavailable() | Closed() | Degraded() | HandlerCancelled():
            return _UNAVAILABLE
        case TimeoutError() | Busy() | InboxFull() | QueueFull() | Conflict():
            return BUSY
    return None


def fault(call: Call[Any], error: BaseException, ambient: Ambient) -> Reply:
    """The answer for an exception of a handler or of the log. No text of it reaches the client but `told`."""
    if (refusal := refusal_of(error)) is not None:
        return error_reply(refusal)
    correlation_id = ambient.token(8)
    _log.error(
        "command_failed",
        action=call.action,
        command_id=call.command_id,
        principal=call.principal.name,
        correlation_id=correlation_id,
        exc_info=error,
    )
    told = f": {error.told}" if isinstance(error, Fault) and error.told else ""
    return error_reply(Refusal(ErrorCode.INTERNAL, zh.INTERNAL, correlation_id + told))


def append_of(call: Call[Any], one: OneAppend) -> Append:
    """The commit of a command: its events, and its answer if the command has an id."""
    record = None
    if call.key is not None:
        record = CommandRecord(call.key, call.fingerprint, one.body, one.events[-1].stream)
    return Append(
        ts_ms=one.ts_ms,
        events=one.events,
        command=record,
        principal=call.user,
        command_id=call.command_id,
        shred=one.shred,
    )


def forbidden(call: Call[Any]) -> Reply:
    """The refusal of a command that the principal may not send."""
    return error_reply(_FORBIDDEN if call.principal.rights is None else _KEY_FORBIDDEN)


def recorded(written: Appended | Duplicate, reply: Reply) -> Reply:
    """The answer after its record was appended: an earlier one counts, if there is one."""
    return from_record(written.command) if isinstance(written, Duplicate) else reply


def repeated(call: Call[Any], record: CommandRecord) -> Reply:
    """The answer to a command whose id has this record."""
    return from_record(record) if record.fingerprint == call.fingerprint else error_reply(MISMATCH)


async def answer_of(work: Awaitable[Reply] | OneAppend | Reply) -> Reply:
    """What a handler answers that appends nothing by way of `OneAppend`. Raises TypeError: it does."""
    if isinstance(work, OneAppend):
        raise TypeError("only a command may append")
    return work if isinstance(work, Reply) else await work


RUNNING_MAX = 10_000
FEW = 16
"""So many commands of one user may run although all users together have half of the most."""
CANCEL_TIMEOUT_S = 1.0

type Observe = Callable[[str, str, float], None]
"""Called for every answer with the action, `ok`, an error code or `duplicate`, and the duration in s."""
type Traced = Callable[[Call[Any], str, float], None]
"""As `Observe`, with the call in place of its action."""

_log = structlog.get_logger(__name__)


type Settle = Callable[[], Awaitable[bool]]
"""Waits until this node has applied all that was ordered until now. False: it could not find out."""


class Gate:
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
        self.told: Callable[[], None] | None = None
        self.traced: Traced | None = None
        """Told of each answered command, its outcome and its seconds."""
        self._ambient = ambient
        self._observe = observe
        self._running_max = running_max
        self._nameless: set[Running] = set()
        """Those without a key."""
        self._by_key: dict[CommandKey, Running] = {}
        self._of_users: dict[str, int] = {}
        """How many commands of each user run."""
        self._queries = 0
        self.refuse_growth: RefuseGrowth | None = None
        """Asked before each command, unless it frees room."""
        self._settle = settle
        self._log = log
        self._fairness = fairness

    @property
    def running(self) -> int:
        """How many commands and queries have begun and not ended."""
        return len(self._by_key) + len(self._nameless) + self._queries

    @property
    def remembered(self) -> int:
        """How many commands a repeated one would be compared with in memory."""
        return len(self._by_key)

    def has_room(self, user: str) -> bool:
        """See `ports.CommandGate`."""
        running = self._of_users.get(user, 0)
        return running < FEW or running < self._running_max // 2 // len(self._of_users)

    def heard(self, outcomes: Sequence[tuple[Running, Appended | Duplicate | Exception]]) -> None:
        """See `Hearer`: answer the commands of one commit."""
        now_s = self._ambient.monotonic_s()
        for run, outcome in outcomes:
            try:
                if isinstance(outcome, Exception):
                    self._end(run, fault(run.call, outcome, self._ambient), now_s)
                else:
                    self._end(run, run.reply_to(outcome), now_s)
            except Exception:  # noqa: BLE001  one answer that cannot be told is no other's
                _log.exception("answer_not_told", action=run.call.action)
        if self.told is not None:
            self.told()

    async def drain(self, timeout_s: float) -> None:
        """Wait for running calls, then cut them short. A call that ignores that is left behind."""
        waited = {run.ended(): run for run in (*self._by_key.values(), *self._nameless)}
        if not waited:
            return
        _, late = await asyncio.wait(waited, timeout=timeout_s)
        runs = [waited[one] for one in late]
        for run in runs:
            if run.task is None:
                self._end(run, None)
        if stuck := await cancel_all([run.task for run in runs if run.task], CANCEL_TIMEOUT_S):
            _log.error("commands_left_behind", count=stuck)

    def _repeat(self, run: Running, first: Running) -> Running:
        """Answer as the running execution, marked as a repeat if its answer is final."""
        if first.call.fingerprint != run.call.fingerprint:
            return self._soon(run, error_reply(MISMATCH))
        if first.others is None:
            first.others = [run]
        else:
            first.others.append(run)
        return run

    def _enter(self, run: Running) -> None:
        """Let repeats of the call wait for `run`."""
        key = run.call.key
        user = run.call.principal.name
        self._of_users[user] = self._of_users.get(user, 0) + 1
        if key is None:
            self._nameless.add(run)
        else:
            self._by_key[key] = run

    def _soon(self, run: Running, reply: Reply) -> Running:
        """Give an answer that is there already, in the loop's next turn."""
        asyncio.get_running_loop().call_soon(self._tell, run, reply)
        return run

    def _task_ended(self, run: Running, task: asyncio.Task[Reply]) -> None:
        self._end(run, None if task.cancelled() else task.result())

    def _end(self, run: Running, reply: Reply | None, now_s: float | None = None) -> None:
        """A command ended: it is forgotten, then all hear its answer. `now_s`: when its commit was told."""
        if run.over:
            return
        key, user = run.call.key, run.call.principal.name
        running = self._of_users.pop(user)
        if running > 1:
            self._of_users[user] = running - 1
        if key is None:
            self._nameless.discard(run)
        else:
            del self._by_key[key]  # first: a fault in telling must not leave it running
        self._tell(run, reply, now_s)
        if run.others is not None:
            if reply is not None and recordable(error_code(reply)):
                reply = msgspec.structs.replace(reply, duplicate=True)
            for other in run.others:
                self._tell(other, reply)

    def _tell(self, run: Running, reply: Reply | None, now_s: float | None = None) -> None:
        run.over = True
        if reply is not None and run.began_s is not None and self._observe is not None:
            took_s = (self._ambient.monotonic_s() if now_s is None else now_s) - run.began_s
            outcome = outcome_of(reply)
            self._observe(run.call.action, outcome, took_s)
            if self.traced is not None:
                self.traced(run.call, outcome, took_s)
        run.tell(reply)

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
