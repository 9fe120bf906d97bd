"""Applying what was ordered to one replica, several proposals in one commit, and committing what is its own.

A replica that cannot apply an offset tries the same one again and serves nothing newer. If its own rows are
damaged, it stops.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence

import structlog

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.core.changes import Group
from huahuo.eventstore.core.draft import Draft, Outcome
from huahuo.eventstore.core.pending import Commit, Pending, tell_listeners
from huahuo.eventstore.core.place import Loaded
from huahuo.eventstore.core.seal import Vault
from huahuo.eventstore.core.storage_port import Reads, Store
from huahuo.eventstore.core.writer import Writer
from huahuo.eventstore.errors import Corrupt, Detached, EventStoreError, InUse
from huahuo.eventstore.executor import Executor
from huahuo.eventstore.model import Appended, StoredEvent
from huahuo.eventstore.replicated.agreement import Agreement
from huahuo.eventstore.replicated.applied import Applied, apply_all
from huahuo.eventstore.replicated.apply import Reserved, Result, Run, Step
from huahuo.eventstore.replicated.arrivals import Arrivals
from huahuo.eventstore.replicated.proposal import Codec, NewerFormat, Reserve
from huahuo.eventstore.replicated.proposing import Part, Sent
from huahuo.eventstore.replicated.reserving import Reservations
from huahuo.eventstore.replicated.shared import load
from huahuo.eventstore.sequencer.port import Ordered, Sequencer

APPLIED_AT_ONCE = 64
APPLIED_BYTES_MAX = 4 << 20
"""Proposals applied in one commit, and their bytes."""
RETRY_S = 1.0
"""How long a replica that could not apply an offset waits before it tries again."""
_log = structlog.get_logger(__name__)


class ApplyingWriter(Writer, ABC):
    """See the module. `shared` is the replicated state as of the last commit. Subclasses propose."""

    def __init__(
        self, store: Store, reads: Reads, loaded: Loaded, *,
        vault: Vault, ambient: Ambient, build: str, executor: Executor, sequencer: Sequencer, key: bytes,
    ) -> None:  # fmt: skip
        super().__init__(store, reads, loaded, vault=vault, ambient=ambient, build=build, executor=executor)
        self.differed: Callable[[str], None] = lambda _: None
        """Told why, when this replica stops because it differs from others, or cannot follow them."""
        self._reason: str | None = None
        self._unapplied: str | None = None
        self.shared = load(loaded.shared)
        self.agreement = Agreement(loaded.passed)
        self._codec = Codec(key, loaded.log_id)
        self._numbers = Reservations(self._start)
        self._arrivals = Arrivals(sequencer, wake=self._start, halt=self.halt)
        self._local: deque[Pending] = deque()
        self._halted = False
        self._resting = False
        self._at_once = APPLIED_AT_ONCE
        self._tried: Applied | None = None

    @property
    def trouble(self) -> str | None:
        """Why nothing can be written, or nothing ordered can be applied; None if both can."""
        return self._reason or self._unapplied

    @trouble.setter
    def trouble(self, reason: str | None) -> None:
        self._reason = reason

    # What subclasses do.

    @abstractmethod
    def halt(self, reason: str) -> None:
        """Apply and propose nothing any more, for good."""
        ...

    @abstractmethod
    def _meet(self, step: Step) -> Sent | None:
        """What a step means to this node. Returns its own proposal that is now applied, if it is one."""
        ...

    @abstractmethod
    def _judge(self) -> None:
        """Compare this replica with the others."""
        ...

    def _may_apply(self) -> bool:
        return len(self._arrivals) > 0 and not self._resting and not self._halted

    async def _apply_some(self) -> None:
        if self.before_commands is not None:  # a hidden record would make this replica differ from the others
            await self.before_commands()
        batch = self._arrivals.batch(self._at_once, APPLIED_BYTES_MAX)
        began_s = self._ambient.monotonic_s()
        try:
            if self._in_doubt:
                await self._find_out()
                if batch[0].offset <= self.shared.offset:
                    return
            applied = await self._executor.run(lambda: self._apply(batch))
        except Exception as error:  # noqa: BLE001  whatever it was, the same offset is applied again
            await self._not_applied(error)
        else:
            if self.observe is not None and (applied.draft.events or applied.draft.changes):
                self.observe(self._ambient.monotonic_s() - began_s)
            self._finish(applied)

    def _apply(self, batch: Sequence[Ordered]) -> Applied:
        """A job: apply and commit. While it runs, the loop changes nothing that it uses."""
        began_s = self._ambient.thread_s()
        self._tried = None
        draft = Draft(self.place, self._store, "", self.shared.time_ms)
        run = Run(draft, self.shared, self._counters, self._first_number, self._codec)
        self._tried = applied = apply_all(run, draft, batch)
        self._store.commit(applied.group())
        applied.spent_s = self._ambient.thread_s() - began_s
        return applied

    def _finish(self, applied: Applied) -> None:
        """A batch is durable: what was sent from here ends as `Writer._settle` says."""
        self._tried = None
        self._unapplied = None
        self._at_once = APPLIED_AT_ONCE
        self.shared = applied.shared
        self._counters.update(applied.counters)
        items: list[Pending] = []
        outcomes: list[Outcome] = []
        ended: list[Sent] = []
        for step, passed in zip(applied.steps, applied.passed, strict=True):
            self.agreement.add(passed)
            sent = self._meet(step)
            if sent is not None:
                ended.append(sent)
                for part, result in zip(sent.parts, step.results, strict=False):
                    self._take_result(part, result, items, outcomes)
        draft = applied.draft
        newest = {event.stream: event for event in draft.events}
        self._settle(
            items,
            Commit(
                outcomes, draft.events, newest, draft.firsts, draft.ended,
                draft.position, draft.chain, True, applied.spent_s,
            ),
        )  # fmt: skip
        for sent in ended:
            sent.done.set_result(None)
        self._arrivals.drop(self.shared.offset)
        self._judge()

    def _take_result(self, part: Part, result: Result, items: list[Pending], outcomes: list[Outcome]) -> None:
        if isinstance(part, Reserve):
            assert isinstance(result, Reserved), "results are in the order of the parts"
            self._numbers.came(result)
        else:
            assert not isinstance(result, Reserved), "results are in the order of the parts"
            items.append(part)
            outcomes.append(result)

    async def _not_applied(self, error: Exception) -> None:
        """Nobody is told anything, because the same offset is applied again."""
        known = isinstance(error, EventStoreError)
        self.failure = reason = str(error) if known else type(error).__name__
        stays = isinstance(error, NewerFormat | Corrupt)  # however often it is tried
        if isinstance(error, InUse | Detached) or (stays and self._at_once == 1):
            if isinstance(error, Corrupt):
                reason = (
                    f"{reason}. So this node cannot apply what is ordered, and serves nothing new; keep a"
                    " copy of its directory before you rebuild it from a node that is right"
                )
                self.differed(reason)
            self.halt(reason)
            return
        if not stays:
            told = f"this node cannot apply what is ordered, and tries again each second: {reason}"
            if told != self._unapplied:
                _log.error(
                    "not_applied", reason=reason, after=self.shared.offset, exc_info=None if known else error
                )
            self._unapplied = told
            self._resting = True
            asyncio.get_running_loop().call_later(RETRY_S, self._rested)
        self._at_once = 1
        self._in_doubt = True
        try:
            await self._find_out()
        except Exception as again:  # noqa: BLE001  asked again before the next try
            _log.error("recovery_failed", reason=str(again))

    def _rested(self) -> None:
        self._resting = False
        self._start()

    async def _find_out(self) -> list[StoredEvent]:
        """Take over the durable state. A commit that failed, and is durable nevertheless, is told as one."""
        found, missed = await self._executor.run(self._look)
        self._in_doubt = False
        shared, tried = load(found.shared), self._tried
        if tried is not None and shared.offset == tried.shared.offset:
            self._finish(tried)
            return []
        self.place = found.place()
        self._counters = dict(found.counters)
        self.shared = shared
        self._arrivals.drop(shared.offset)
        return missed

    # What concerns only this replica.

    async def _commit_local(self) -> None:
        items = list(self._local)
        self._local.clear()
        changes = [change for pending in items for change in pending.changes]
        try:
            if self._in_doubt:
                tell_listeners(self._listeners, await self._find_out())
            group = Group(self.shared.time_ms, [], changes)
            await self._executor.run(lambda: self._store.commit(group))
        except Exception as error:  # noqa: BLE001  whatever it was, the callers must hear of it
            await self._fail(items, error)
            if isinstance(error, InUse | Detached):
                self.halt(str(error))
            return
        self.failure = None
        if self.failed_bytes and sum(pending.size for pending in items) >= self.failed_bytes:
            self.failed_bytes = 0
        self._resolve(items, [Appended(self.place.position, ()) for _ in items])
