"""Reads the order as it arrives at a node: its genesis record, then ahead a little, in batches.

The newest offset is asked for by many at once. That the ordered log does not answer this node any more,
and that it does again, is logged.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import aclosing, suppress

import structlog

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.errors import EventStoreError, Unavailable
from huahuo.eventstore.replicated.proposal import Birth, load_birth
from huahuo.eventstore.sequencer.port import Misconfigured, Ordered, Sequencer, SequencerError, Trimmed

READ_AHEAD_MAX = 256
"""Proposals read ahead of what is applied."""


class NoGenesis(EventStoreError):  # noqa: N818  the condition is the name
    """An ordered log holds no genesis record, which names the log."""


class Arrivals:
    """The order as it arrives at a node: read ahead a little, and handed on in batches."""

    def __init__(
        self, sequencer: Sequencer, *, wake: Callable[[], None], halt: Callable[[str], None]
    ) -> None:
        self._sequencer = sequencer
        self._wake = wake
        self._halt = halt
        self._waiting: deque[Ordered] = deque()
        self._room = asyncio.Event()
        self._passed = 0
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    async def follow(self, after: int) -> None:
        """Read the order behind offset `after`, for good."""
        self._passed = after
        try:
            async for ordered in self._sequencer.follow(after):
                self._waiting.append(ordered)
                self._wake()
                while len(self._waiting) >= READ_AHEAD_MAX:
                    self._room.clear()
                    await self._room.wait()
        except Trimmed as error:
            self._halt(f"{error}. Start this node again: it fetches a copy of another one")
        except SequencerError as error:
            self._halt(str(error))

    def batch(self, count_max: int, bytes_max: int) -> list[Ordered]:
        """The next proposals: at least one, then as many as fit. They stay until `drop`."""
        batch: list[Ordered] = []
        size = 0
        for one in self._waiting:
            size += len(one.proposal)
            if batch and (len(batch) >= count_max or size > bytes_max):
                break
            batch.append(one)
        return batch

    def drop(self, upto: int) -> None:
        """All up to this offset are applied: tasks that wait for one of them go on."""
        while self._waiting and self._waiting[0].offset <= upto:
            self._waiting.popleft()
        self._room.set()
        self._passed = max(self._passed, upto)
        for offset, waiter in self._waiters:
            if offset <= upto and not waiter.done():
                waiter.set_result(None)
        self._waiters = [one for one in self._waiters if not one[1].done()]

    async def applied(self, offset: int) -> None:
        """Wait until the proposal at `offset` is applied. Raises Unavailable: `end` came first."""
        if self._passed >= offset:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((offset, waiter))
        await waiter

    def end(self, reason: str) -> None:
        """Nothing more is applied."""
        for _, waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(Unavailable(reason))
        self._waiters.clear()


async def find_genesis(sequencer: Sequencer, key: bytes, last: int) -> tuple[Birth, int]:
    """The genesis record of an ordered log that ends at `last`, and the oldest offset that it keeps.

    Raises:
        WrongKey, NewerFormat: as `load_birth`.
        NoGenesis: it holds none.
        SequencerError: as `Sequencer.follow`.
    """
    first = 1
    while first <= last:
        try:
            async with aclosing(sequencer.follow(first - 1)) as ordered:
                async for one in ordered:
                    if (born := load_birth(one.proposal, key)) is not None:
                        return born, first
                    if one.offset >= last:
                        break
        except Trimmed as error:
            first = error.first
        else:
            break
    raise NoGenesis(
        f"the ordered log begins at offset {first} and holds no genesis record, which names the log: it was"
        " purged, or trimmed by hand. Nodes whose --data holds the log go on: start one if none runs, run"
        " `huahuo cluster trim` there, which writes a new genesis record, and start this node again. If no"
        " such directory is left, restore a backup and adopt it into an empty ordered log (another `?name=`)"
    )


async def must_go_on(sequencer: Sequencer, key: bytes, log_id: str, applied: int) -> int:
    """Compare an ordered log with a replica of `log_id` that has applied as much; returns its newest offset.

    One that holds no genesis record, as after a trim by hand, is taken as the same.

    Raises:
        Misconfigured: it is another one, or went back.
        WrongKey, NewerFormat, SequencerError: as `find_genesis`.
    """
    last = await sequencer.last()
    if last < applied:
        raise Misconfigured(
            f"the ordered log ends at offset {last}, and this directory has applied {applied} proposals:"
            " it is another log, or it went back (docs/scaling.md)"
        )
    with suppress(NoGenesis):
        born, _ = await find_genesis(sequencer, key, last)
        if born.log_id != log_id:
            raise Misconfigured(
                f"this directory holds the log {log_id}, and the ordered log is that of {born.log_id}: use"
                " the address or the --data that belongs to it"
            )
    return last


class Newest:
    """Callers that come while a question is under way share the next one, which begins after they came."""

    def __init__(self, sequencer: Sequencer) -> None:
        self._sequencer = sequencer
        self._asking = asyncio.Lock()
        self._asked = self._answered = self._offset = 0

    async def ask(self) -> int:
        """The newest offset, or a later one.

        Raises:
            Unavailable: the ordered log does not answer.
        """
        self._asked += 1
        came = self._asked
        async with self._asking:
            if self._answered < came:
                answered = self._asked
                try:
                    self._offset = await self._sequencer.last()
                except SequencerError as error:
                    raise Unavailable(str(error)) from None
                self._answered = answered
        return self._offset


SILENT_S = 6.0
"""A log is called silent when a proposal of this node has waited this long for its place: a network that was
lost drops packets without a word, so no request fails. The logs' own fail-over takes 4 to 9 s."""
_log = structlog.get_logger(__name__)


class Reaching:
    """Whether the ordered log answers this node: logged when it does not any more, and when it does again."""

    def __init__(self, ambient: Ambient) -> None:
        self._ambient = ambient
        self._answered_s = ambient.monotonic_s()
        self._away_s: float | None = None
        self._hint = ""
        self._said: str | None = None

    def answered(self) -> None:
        """A proposal of this node was put in order, or none waits."""
        self._answered_s = self._ambient.monotonic_s()
        self._hint = ""

    def doubt(self, hint: str) -> None:
        """A proposal got no place, and this may be why."""
        self._hint = hint or self._hint

    def silence(self, *, waits: bool, arrives: bool, trouble: str | None, why: str) -> str | None:
        """What to say of a log that has been silent for too long; None if it has not.

        `waits`: a proposal of this node waits for its place. `arrives`: there is something to apply.
        `trouble`: what is said now; None is returned too if that says something else. `why`: why the log
        can't be read.
        """
        if not waits:
            self.answered()
        silent_s = self._ambient.monotonic_s() - self._answered_s
        if arrives or silent_s <= SILENT_S or trouble not in (None, self._said):
            return None
        hint = why or self._hint
        self._said = f"the ordered log has not answered for {silent_s:.0f} s{f': {hint}' if hint else ''}"
        return self._said

    def note(self, trouble: str | None) -> None:
        """The log can't be reached, for this reason; or it answers (None)."""
        now_s = self._ambient.monotonic_s()
        if trouble is not None and self._away_s is None:
            self._away_s = now_s
            _log.warning("ordered_log_away", reason=trouble)
        elif trouble is None and self._away_s is not None:
            _log.info("ordered_log_back", after_s=round(now_s - self._away_s, 1))
            self._away_s = None


async def meanwhile(work: Coroutine[None, None, None], tell: Callable[[], None], every_s: float) -> None:
    """Wait for `work`; `tell` first, and whenever it has not ended for `every_s`. Raises as they do."""
    task = asyncio.ensure_future(work)
    try:
        while True:
            tell()
            if (await asyncio.wait((task,), timeout=every_s))[0]:
                return task.result()
    finally:
        task.cancel()
