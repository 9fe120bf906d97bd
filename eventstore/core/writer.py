"""Group commit on the event loop: everything that reaches the log passes here.

Appends gather in a queue while a commit runs; the next job decides and commits them together. A job is one
commit on the executor port. There is no timer and no thread of our own. If more appends wait than a group
holds, the principals take turns (`huahuo.eventstore.core.group_queue`). Between commits the store cares for
its files.

After a job, in this order: heads move in memory, the appends' futures resolve, listeners get the new
events, each hearer is told of its appends, and users are charged. The hearer of an append that was alone
is told before listeners, because nobody else waits for it. Then the loop runs once, so that woken
appenders can append again, and the next job starts.

The outcome of a failed commit is unknown. The engine first finds out what is durable, then every append of
the group gets `Unavailable`: nothing is acknowledged on a second attempt.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import Any, Protocol

import msgspec
import structlog

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.core.command_records import AGE_KEY, AgeClock
from huahuo.eventstore.core.draft import Draft, Outcome, Part
from huahuo.eventstore.core.group_queue import GroupQueue, cost_of
from huahuo.eventstore.core.seal import Prepared, Vault, carry
from huahuo.eventstore.core.storage_port import Change, Loaded, PutCounter, PutMeta, Reads, Store
from huahuo.eventstore.errors import (
    Closed,
    Corrupt,
    Damaged,
    Detached,
    EventStoreError,
    InUse,
    QueueFull,
    Unavailable,
)
from huahuo.eventstore.executor import Charge, Executor
from huahuo.eventstore.model import LOG_STREAM, Append, Appended, Duplicate, Head, StoredEvent
from huahuo.eventstore.port import Hearer, Listener, RowListener

PETTY_S = 50e-6
"""Smaller parts are not charged: in a group of many users, charging would cost as much as the part."""


type Written = Appended | Duplicate


class Pending(msgspec.Struct, frozen=True):
    """An append, or changes without one, that waits for its group.

    Either the future `done` gets its outcome, or `hearer` does, with `about`.
    """

    append: Append | None
    changes: tuple[Change, ...]
    size: int
    done: asyncio.Future[Written] | None
    prepared: Prepared | None = None
    hearer: Hearer | None = None
    about: Any = None


class Commit(msgspec.Struct, frozen=True):
    """The result of a job: an outcome for each pending, and the new end of the log."""

    outcomes: list[Outcome]
    events: list[StoredEvent]
    newest: dict[str, StoredEvent]
    firsts: dict[str, int]
    ended: list[str]
    position: int
    chain: bytes
    wrote: bool
    spent_s: float
    horizons: dict[str, int]
    touched: set[Part]


def decided(draft: Draft, pending: Pending, vault: Vault) -> Outcome:
    """The outcome of one pending, which the group now holds. Its secrets are sealed at its turn."""
    append = pending.append
    if append is None:
        draft.changes += pending.changes
        return Appended(draft.position, ())
    try:
        if not (append.secrets or append.blobs):
            return draft.add(append)
        refused = draft.refusal(append)
        if refused is not None:
            return refused
        held = draft.wrapped_keys(put.owner for put in append.secrets)
        return draft.accept(append, carry(append, held, vault, pending.prepared))
    except Exception as error:  # noqa: BLE001  what cannot be decided fails alone
        return error


def tell_hearers(items: Sequence[Pending], outcomes: Sequence[Outcome]) -> None:
    """Tell each hearer what became of its appends."""
    heard: dict[Hearer, list[tuple[Any, Outcome]]] = {}
    for pending, outcome in zip(items, outcomes, strict=True):
        hearer = pending.hearer
        if hearer is not None:
            of_hearer = heard.get(hearer)
            if of_hearer is None:
                heard[hearer] = [(pending.about, outcome)]
            else:
                of_hearer.append((pending.about, outcome))
    for hearer, told in heard.items():
        try:
            hearer.heard(told)
        except Exception:  # noqa: BLE001  one bad hearer must not end the writer
            _log.exception("hearer_failed")


def bill(items: list[Pending], spent_s: float, charge: Charge) -> None:
    """Charge each principal for its part of the group, weighed as in the queue."""
    principals = {pending.append.principal for pending in items if pending.append is not None}
    if len(principals) == 1:  # nothing to divide
        if spent_s > PETTY_S:
            charge(principals.pop(), spent_s)
        return
    costs: dict[str, int] = {}
    for pending in items:
        append = pending.append
        if append is not None:
            cost = cost_of(len(append.events), pending.size)
            costs[append.principal] = costs.get(append.principal, 0) + cost
    total = sum(costs.values())
    for principal, cost in costs.items():
        if (part_s := spent_s * cost / total) > PETTY_S:
            charge(principal, part_s)


def tell_listeners(listeners: Sequence[Listener], events: Sequence[StoredEvent]) -> None:
    """Tell of durable events."""
    for listener in tuple(listeners) if events else ():
        try:
            listener(events)
        except Exception:  # noqa: BLE001  one bad listener must not end the writer
            _log.exception("listener_failed")


def _added[T](listeners: list[T], listener: T) -> Callable[[], None]:
    """Add a listener; returns what removes it."""
    listeners.append(listener)

    def forget() -> None:
        if listener in listeners:
            listeners.remove(listener)

    return forget


QUEUE_BYTES_PER_USER = 16 << 20
QUEUE_BYTES_MAX = 64 << 20
CARE_RETRY_S = 1.0
_AHEAD = 8
"""What is wanted of a user in the queue is one part in this many of what it may hold."""
_ALL_AHEAD = 32
"""As `_AHEAD`, of all users together: some groups, since in memory an event takes several times its bytes."""
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


class Writer:
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
        self.queue_bytes_per_user = QUEUE_BYTES_PER_USER
        self.queue_bytes_max = QUEUE_BYTES_MAX
        self.refused = 0
        """Appends that were refused because the queue was full."""
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
        self._store = store
        self._executor = executor
        self._queue: GroupQueue[Pending] = GroupQueue()
        self._running: asyncio.Task[None] | None = None
        self._care_timer: asyncio.TimerHandle | None = None
        self._closed: str | None = None
        self._reads = reads
        self._vault = vault
        self._ambient = ambient
        self._build = build
        self._counters = dict(loaded.counters)
        self._first_number = loaded.first_number
        self._ages = AgeClock(loaded.age, ambient.now_ms(), ambient.monotonic_s())
        self._taken: set[str] = set()
        self._listeners: list[Listener] = []
        self._row_listeners: list[RowListener] = []
        self._in_doubt = False

    @property
    def queue_bytes(self) -> int:
        """Bytes that wait for their group."""
        return self._queue.bytes

    def has_room(self, owner: str) -> bool:
        """Whether so little of this principal waits that what it asks for next may be looked at.

        Beyond this, more of it would only take memory while it waits.
        """
        return self._queue.has_room(
            owner, 0, per_owner=self.queue_bytes_per_user // _AHEAD, most=self.queue_bytes_max // _ALL_AHEAD
        )

    def append(self, append: Append, size: int, prepared: Prepared | None = None) -> asyncio.Future[Written]:
        """Queue `append`, of `size` bytes, in its principal's line. The future gets its outcome.

        `prepared`: its secrets, sealed ahead.

        Raises:
            QueueFull: too many bytes of its principal, or of all principals together, wait already.
            Closed: the log accepts no more appends.
        """
        done: asyncio.Future[Written] = asyncio.get_running_loop().create_future()
        self._put(append.principal, Pending(append, (), size, done, prepared), len(append.events), size)
        return done

    def append_for(self, hearer: Hearer, about: Any, append: Append, size: int) -> None:
        """As `append`, but `hearer` is told of it, with `about`."""
        pending = Pending(append, (), size, None, None, hearer, about)
        self._put(append.principal, pending, len(append.events), size)

    def write(self, changes: tuple[Change, ...], size: int) -> asyncio.Future[Written]:
        """As `append`, for changes of the service itself without an append."""
        done: asyncio.Future[Written] = asyncio.get_running_loop().create_future()
        self._put("", Pending(None, changes, size, done), 0, size)
        return done

    async def between_commits(self, job: Callable[[], None]) -> None:
        """Run `job` on the writer's thread, while no commit runs. It must leave no transaction open."""
        await self._executor.run(job)

    def stop(self) -> None:
        """Accept no more appends."""
        self._closed = self._closed or "the log has been closed"

    async def settled(self) -> None:
        """Wait until nothing waits for a commit, and the care that followed is over."""
        while (running := self._running) is not None:
            await asyncio.wait([running])
            await asyncio.sleep(0)
            if self._running is running:  # cancelled before it began
                self._running = None

    async def close(self) -> None:
        """Commit what waits, then release the store. Call once."""
        self.stop()
        await self.settled()
        if self._care_timer is not None:
            self._care_timer.cancel()
        await self._executor.run(self._store.close)

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
        return _added(self._listeners, listener)

    def listen_to_rows(self, listener: RowListener) -> Callable[[], None]:
        """See `Log.listen_to_rows`."""
        return _added(self._row_listeners, listener)

    def _put(self, owner: str, pending: Pending, events: int, size: int) -> None:
        """Not a coroutine, because each append has one already."""
        queue, most = self._queue, self.queue_bytes_per_user
        if queue.bytes + size > most and not queue.has_room(
            owner, size, per_owner=most, most=self.queue_bytes_max
        ):
            self.refused += 1
            raise QueueFull(f"too much of {owner} waits to be written: nothing was written, try again later")
        if self._closed is not None:
            raise Closed(self._closed)
        queue.put(owner, pending, events, size)
        if self._running is None:
            self._start()

    def _start(self) -> None:
        if self._running is None:
            self._running = asyncio.get_running_loop().create_task(self._run(), name="log writer")

    async def _run(self) -> None:
        """Commit group after group until nothing waits."""
        try:
            while True:
                if self._queue:
                    await self._one_group()
                    # The woken appenders run first, so that their next appends join the next group.
                    await asyncio.sleep(0)
                if self._store.care_due():
                    await self._care()
                    if self._store.care_due() and not self._queue:
                        self._care_later()
                        break
                elif not self._queue:
                    break
        finally:
            self._running = None

    async def _care(self) -> None:
        try:
            await self._executor.run(self._store.care)
        except Exception:  # noqa: BLE001  the files grow, the log goes on
            _log.exception("care_failed")

    def _care_later(self) -> None:
        if self._care_timer is None and self._closed is None:
            loop = asyncio.get_running_loop()
            self._care_timer = loop.call_later(CARE_RETRY_S, self._care_again)

    def _care_again(self) -> None:
        self._care_timer = None
        self._start()

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
        if place.unpacked:
            place.pack()
        place.position = commit.position
        place.chain = commit.chain
        if commit.horizons:
            place.horizons.update(commit.horizons)
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
        if commit.touched or commit.horizons:
            self._tell_of_rows(commit.touched)
        spent_s = commit.spent_s + self._ambient.monotonic_s() - came_s
        if not alone:
            tell_hearers(items, commit.outcomes)
        if self.charge is not None:
            bill(items, spent_s, self.charge)

    def _tell_of_rows(self, touched: Collection[Part] | None) -> None:
        for listener in tuple(self._row_listeners):
            try:
                listener(touched)
            except Exception:  # noqa: BLE001  one bad listener must not end the writer
                _log.exception("listener_failed")

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
        asyncio.get_running_loop().call_soon(self._tell_of_rows, None)  # what of them is durable is not known
        return missed

    # Jobs run on the executor's thread. While one runs, the loop changes nothing that it uses.

    def _job(self, items: list[Pending], counters: list[PutCounter], age_ms: int) -> Commit:
        """Decide `items` and write what was accepted. Raises as `Store.commit`."""
        # Without anybody to charge, the time is not read: it takes two system calls.
        charged = self.charge is not None
        began_s = self._ambient.thread_s() if charged else 0.0
        draft = Draft(self.place, self._store, self._build, age_ms)
        keys = [one.append.command.key for one in items if one.append and one.append.command]
        if len(keys) > 1:
            draft.look_up(keys)
        outcomes = [decided(draft, pending, self._vault) for pending in items]
        wrote = bool(draft.events or draft.changes)
        if wrote:
            draft.changes[:0] = counters
            note = self._ages.note_due()
            if note is not None:
                draft.changes.append(PutMeta(AGE_KEY, msgspec.json.encode(note)))
            self._store.commit(draft.group())
            if note is not None:
                self._ages.noted(note)
        newest = {event.stream: event for event in draft.events}
        spent_s = self._ambient.thread_s() - began_s if charged else 0.0
        return Commit(
            outcomes, draft.events, newest, draft.firsts, draft.ended,
            draft.position, draft.chain, wrote, spent_s, draft.horizons, draft.touched,
        )  # fmt: skip

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
