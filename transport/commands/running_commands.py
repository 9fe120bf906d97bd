"""Which commands run, and who hears the answer of each: its caller, and those that repeated it meanwhile."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import structlog

from huahuo.actors.plugins.calls import Call, Reply, error_reply
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.cancelling import cancel_all
from huahuo.eventstore.model import Appended, CommandKey, Duplicate
from huahuo.transport.commands.answers import MISMATCH, error_code, fault, outcome_of
from huahuo.transport.commands.running import Running
from huahuo.transport.protocol.codes import recordable

RUNNING_MAX = 10_000
FEW = 16
"""So many commands of one user may run although all users together have half of the most."""
CANCEL_TIMEOUT_S = 1.0

type Observe = Callable[[str, str, float], None]
"""Called for every answer with the action, `ok`, an error code or `duplicate`, and the duration in s."""
type Traced = Callable[[Call[Any], str, float], None]
"""As `Observe`, with the call in place of its action."""

_log = structlog.get_logger(__name__)


class RunningCommands:
    """See the module. `told` is called when the commands of one commit were answered."""

    def __init__(self, ambient: Ambient, observe: Observe | None, running_max: int) -> None:
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
