"""Group commit on the event loop: everything that reaches the log passes here.

Appends gather while a commit runs (`commit_loop`); the next job commits them together. A job is one commit on
the executor port. After a job, in this order: heads move in memory, the appends' futures resolve, listeners
get the new events, each hearer is told of its appends, and users are charged. The hearer of an append that
was alone is told before listeners, because nobody else waits for it. Then the loop runs once, so that woken
appenders can append again, and the next job starts.

The outcome of a failed commit is unknown. The engine first finds out what is durable, then every append of
the group gets `Unavailable`: nothing is acknowledged on a second attempt.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol

import structlog

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.core.ages import AgeClock
from huahuo.eventstore.core.changes import PutCounter
from huahuo.eventstore.core.commit_job import commit_job
from huahuo.eventstore.core.commit_loop import CommitLoop
from huahuo.eventstore.core.draft import Draft, Outcome
from huahuo.eventstore.core.fair_executor import Charge
from huahuo.eventstore.core.pending import Commit, Pending, bill, tell_hearers, tell_listeners
from huahuo.eventstore.core.place import Loaded
from huahuo.eventstore.core.seal import Vault
from huahuo.eventstore.core.storage_port import Reads, Store
from huahuo.eventstore.errors import Corrupt, Damaged, Detached, EventStoreError, InUse, Unavailable
from huahuo.eventstore.executor import Executor
from huahuo.eventstore.model import LOG_STREAM, Head, StoredEvent
from huahuo.eventstore.port import Listener

GROUP_EVENTS_MAX = 2048
GROUP_BYTES_MAX = 1 << 20
_COMMIT_PAGES_BYTES = 64 << 10
_TRIES_MAX = 64
"""Commits of parts of one group, where a damaged page refuses the whole: some ms each."""
_log = structlog.get_logger(__name__)


class WriterOf(Protocol):
    """Makes the writer of a log that has been opened."""

    def __call__(
        self, store: Store, reads: Reads, loaded: Loaded, *,
        vault: Vault, ambient: Ambient, build: str, executor: Executor,
    ) -> "Writer":  # fmt: skip
        """Its arguments are those of `Writer`."""
        ...


class Writer(CommitLoop):
    """The only writer of a log. All methods are called on the loop; jobs never overlap.

    Invariant: `place` counts durable events only. `failure` is the reason why the last commit failed, None
    if it succeeded.
    """

    def __init__(
        self,
        store: Store,
        reads: Reads,
        loaded: Loaded,
        *,
        vault: Vault,
        ambient: Ambient,
        build: str,
        executor: Executor,
    ) -> None:
        super().__init__(store, executor)
        self.place = loaded.place()
        self.failure: str | None = None
        self.trouble: str | None = None
        """Why nothing can be written although the disk works, None if it can."""
        self.failed_bytes = 0
        """For a probe: more than any commit that failed since one of this size succeeded, or 0."""
        self.observe: Callable[[float], None] | None = None
        """Called with the seconds that each group commit took."""
        self.charge: Charge | None = None
        """Called with the seconds that each principal's appends cost, in the commit and then on the loop."""
        self.before_commands: Callable[[], Awaitable[None]] | None = None
        """Awaited before a group with commands is decided: their records may not have been looked at yet."""
        self.began: Callable[[str], None] | None = None
        """Called with the principal of each stream that began, once that is durable."""
        self._reads = reads
        self._vault = vault
        self._ambient = ambient
        self._build = build
        self._counters = dict(loaded.counters)
        self._first_number = loaded.first_number
        self._ages = AgeClock(loaded.age, ambient.now_ms(), ambient.monotonic_s())
        self._taken: set[str] = set()
        self._listeners: list[Listener] = []
        self._in_doubt = False

    def take(self, counter: str, count: int) -> int:
        """See `Log.take`. The next commit writes the counter's next number."""
        first = self._counters.get(counter, self._first_number)
        self._counters[counter] = first + count
        self._taken.add(counter)
        return first

    @property
    def incarnation(self) -> str:
        """See `Log.incarnation`."""
        return ""

    def living(self) -> frozenset[str]:
        """See `Log.living`."""
        return frozenset()

    async def reserve(self, counter: str, count: int) -> None:
        """See `Log.reserve`. The only writer of a log needs no reservation."""

    def listen(self, listener: Listener) -> Callable[[], None]:
        """See `Log.listen`."""
        self._listeners.append(listener)

        def forget() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return forget

    async def _one_group(self) -> None:
        items = self._queue.take(GROUP_EVENTS_MAX, GROUP_BYTES_MAX)
        if self.before_commands is not None and any(one.append and one.append.command for one in items):
            await self.before_commands()
        await self._commit(items, _TRIES_MAX)

    async def _commit(self, items: list[Pending], tries: int) -> int:
        """Commit a group. Returns how many tries of `tries` are left.

        Where a damaged page refuses it, its halves are tried, so that only those fail that need the page.
        """
        counters = [PutCounter(name, self._counters[name]) for name in sorted(self._taken)]
        self._taken.clear()
        began_s = self._ambient.monotonic_s()
        age_ms = self._ages.read(self._ambient.now_ms(), began_s)
        wrote = False
        try:
            if self._in_doubt:
                tell_listeners(self._listeners, await self._find_out())
                began_s = self._ambient.monotonic_s()
            commit = await self._executor.run(partial(self._job, items, counters, age_ms))
            wrote = commit.wrote
            if wrote and self.observe is not None:
                self.observe(self._ambient.monotonic_s() - began_s)
        except Corrupt as error:
            if len(items) > 1 and tries > 0 and await self._wrote_nothing(error):
                self._taken.update(put.counter for put in counters)
                half = len(items) // 2
                return await self._commit(items[half:], await self._commit(items[:half], tries - 1))
            if error.wrote_nothing:
                outcomes: Sequence[Outcome] = [Corrupt(error.place, error.reason) for _ in items]
                self._resolve(items, outcomes)
            else:
                outcomes = await self._fail(items, error)
        except Exception as error:  # noqa: BLE001  whatever it was, the group must hear of it
            outcomes = await self._fail(items, error)
        else:
            self._settle(items, commit)
            return tries
        finally:
            if not wrote:
                self._taken.update(put.counter for put in counters)
        tell_hearers(items, outcomes)
        return tries

    async def _wrote_nothing(self, error: Corrupt) -> bool:
        """Whether a commit that met a damaged page wrote nothing. What it wrote in spite of that is told."""
        if error.wrote_nothing:
            return True
        self._in_doubt = True
        try:
            written = await self._find_out()
        except Exception:  # noqa: BLE001  asked again before the next group
            return False
        tell_listeners(self._listeners, written)
        return not written

    def _settle(self, items: list[Pending], commit: Commit) -> None:
        """Apply a commit: heads, then futures, listeners, hearers and charges. See the module."""
        came_s = self._ambient.monotonic_s()
        place, heads, is_new = self.place, self.place.heads, False
        for stream, event in commit.newest.items():
            if stream in heads:
                heads[stream] = Head(heads[stream].first, event.seq, event.chain)
            elif (head := place.unpack(stream)) is not None:
                heads[stream] = Head(head.first, event.seq, event.chain)
            else:
                is_new = True
                heads[stream] = Head(1, event.seq, event.chain)
        if is_new and self.began is not None:
            for event in commit.events:
                if event.seq == 1:  # a stream that ended goes on with a higher one
                    self.began(event.principal)
        for stream, first in commit.firsts.items():
            head = place.unpack(stream)
            if head is not None:  # else it ended
                place.heads[stream] = Head(first, head.seq, head.link)
        for stream in commit.ended:
            place.end(stream)
        place.pack()
        place.position = commit.position
        place.chain = commit.chain
        if commit.wrote:
            self.failure = None
            if self.failed_bytes and sum(pending.size for pending in items) >= self.failed_bytes:
                self.failed_bytes = 0
        self._resolve(items, commit.outcomes)
        alone = len(items) == 1 and items[0].hearer is not None
        if alone:
            told_s = self._ambient.monotonic_s()
            tell_hearers(items, commit.outcomes)
            came_s += self._ambient.monotonic_s() - told_s  # hearers charge their own time
        tell_listeners(self._listeners, commit.events)
        spent_s = commit.spent_s + self._ambient.monotonic_s() - came_s
        if not alone:
            tell_hearers(items, commit.outcomes)
        if self.charge is not None:
            bill(items, spent_s, self.charge)

    def _resolve(self, items: Sequence[Pending], outcomes: Sequence[Outcome]) -> None:
        """Resolve the futures of those that have one."""
        for pending, outcome in zip(items, outcomes, strict=True):
            done = pending.done
            if not isinstance(outcome, Exception):
                if done is not None and not done.done():
                    done.set_result(outcome)
                continue
            if isinstance(outcome, Corrupt):
                self._reads.corruption.note(outcome)
            if done is not None and not done.done():
                done.set_exception(outcome)

    async def _fail(self, items: list[Pending], error: Exception) -> Sequence[Outcome]:
        known = isinstance(error, EventStoreError)
        self.failure = reason = str(error) if known else type(error).__name__
        # A commit writes more than its content, because it writes whole pages. This is an upper bound.
        size = 2 * sum(pending.size for pending in items) + _COMMIT_PAGES_BYTES
        self.failed_bytes = max(self.failed_bytes, min(size, GROUP_BYTES_MAX))
        missed: list[StoredEvent] = []
        not_recovered = ""
        if isinstance(error, InUse | Detached):
            self._closed = reason
        elif not self._in_doubt:
            self._in_doubt = True
            try:
                missed = await self._find_out()
            except Exception as again:  # noqa: BLE001  asked again before the next group
                not_recovered = str(again)
        # One for each append: a shared exception would collect the traceback of each raise.
        outcomes = [Unavailable(f"the log cannot write: {reason}") for _ in items]
        for pending, outcome in zip(items, outcomes, strict=True):
            if pending.done is not None and not pending.done.done():
                pending.done.set_exception(outcome)
        tell_listeners(self._listeners, missed)
        # Last, because an application's logger may write to the same full disk and raise.
        _log.error("commit_failed", reason=reason, appends=len(items), exc_info=None if known else error)
        if not_recovered:
            _log.error("recovery_failed", reason=not_recovered)
        return outcomes

    async def _find_out(self) -> list[StoredEvent]:
        """Take over the durable state. Returns the durable events that no listener was told of."""
        found, missed = await self._executor.run(self._look)
        self.place = found.place()
        for counter, following in found.counters.items():
            self._counters[counter] = max(following, self._counters.get(counter, 1))
        self._in_doubt = False
        return missed

    # Jobs run on the executor's thread. While one runs, the loop changes nothing that it uses.

    def _job(self, items: list[Pending], counters: list[PutCounter], age_ms: int) -> Commit:
        # Without anybody to charge, the time is not read: it takes two system calls.
        thread_s = None if self.charge is None else self._ambient.thread_s
        draft = Draft(self.place, self._store, self._build, age_ms)
        return commit_job(self._store, draft, items, counters, self._ages, self._vault, thread_s)

    def _look(self) -> tuple[Loaded, list[StoredEvent]]:
        place = self.place
        found = self._store.recover()
        missed: list[StoredEvent] = []
        if found.position > place.position:
            new = found.position - place.position
            missed = self._reads.events(
                LOG_STREAM, place.position, found.position, new, new * GROUP_BYTES_MAX
            )
        elif found.position < place.position or found.chain != place.chain:
            raise Damaged(place.position, f"acknowledged events are gone, the log ends at {found.position}")
        return found, missed
