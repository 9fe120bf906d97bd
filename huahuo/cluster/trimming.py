"""Trimming the ordered log: it forgets what all nodes have applied and more than one disk holds.

The node that has the work tells the log's birth again, and later trims what is before it. So what is left
always begins with a birth: a new node finds there whose log it is. Later is after `keep_s`, once

* every living node has applied it, and
* another node lives, or a backup was made since: else one lost disk could be the last copy.

A row says how far it is trimmed, and where each birth since is and how old, by the time that all nodes
share. So the node that takes the work over goes on where the other one was.

A secret's wrapped key also lies in the ordered log, so what was shredded since the trimmed position can still
be read with the master key and the ordered log.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from huahuo.cluster.coordination import Duty
from huahuo.cluster.members import MEMBERS_TABLE
from huahuo.eventstore.ambient import Ambient, json_bytes
from huahuo.eventstore.core.reader import AUDIT_STREAM
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.model import Append, RowPut
from huahuo.eventstore.port import Log
from huahuo.eventstore.replicated.writer import ReplicaWriter
from huahuo.eventstore.sequencer.port import SequencerError

SHREDS: Final = frozenset({"secrets_shredded", "user_erased"})
TURN_S: Final = 60.0
MARKS: Final = 8
"""Births told in the time that is kept: the log has at most an eighth more than that."""
MARKS_MAX: Final = 4 * MARKS
"""Births whose places are kept while the log may not be trimmed: the newest."""
LIVES_S: Final = 10.0
LOOK_S, LOOKS_MAX = 0.5, 60
"""Seconds between two looks whether all nodes have applied a mark, and how many looks at most."""
_PART, _KEY = "trimmed", b"newest"
_PAGE_EVENTS: Final = 500
_log = structlog.get_logger(__name__)


class Mark(msgspec.Struct, frozen=True):
    """A birth told again at `offset`, when the log ended at `position` and all nodes' time was `log_ms`."""

    offset: int
    position: int
    at_ms: int
    log_ms: int = 0


class _Kept(msgspec.Struct, frozen=True):
    """What the row says."""

    trimmed: Mark = Mark(0, 0, 0)
    births: list[Mark] = []


class NotTrimmed(Exception):  # noqa: N818  the condition is the name
    """It may not be trimmed now. The text says why."""


class Trimmer:
    """See the module. `keep_s` 0: only `now` trims. `backed_up_ms`: when the newest kept backup was made."""

    def __init__(
        self,
        *,
        log: Log,
        replica: ReplicaWriter,
        duty: Duty,
        ambient: Ambient,
        keep_s: float,
        backed_up_ms: Callable[[], int | None],
    ) -> None:
        self.trimmed = Mark(0, 0, 0)
        self.shreds: dict[int, int] = {}
        """Shreds that the ordered log still has: their times by position."""
        self._log = log
        self._replica = replica
        self._duty = duty
        self._ambient = ambient
        self._keep_ms = keep_s * 1000
        self._backed_up_ms = backed_up_ms
        self._marks: list[Mark] = []
        self._audited = 0
        self._told = ""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Trim by itself from now on."""
        self._task = asyncio.create_task(self._run(), name="trimming")

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    @property
    def oldest_shred_s(self) -> float:
        """The age of the oldest shred whose key the ordered log still has; 0 if there is none."""
        oldest_ms = min(self.shreds.values(), default=None)
        return 0.0 if oldest_ms is None else max(0.0, (self._ambient.now_ms() - oldest_ms) / 1000)

    async def now(self, *, alone: bool = False) -> Mark:
        """Trim all that may be trimmed. `alone`: also if no other disk holds it.

        Raises:
            NotTrimmed: a living node has not applied it, or no other disk holds it.
            EventStoreError, SequencerError: the log does not answer.
        """
        mark = await self._mark()
        for _ in range(LOOKS_MAX):
            if not self._behind(mark):
                break
            await asyncio.sleep(LOOK_S)
        if (why := self.refusal(mark, alone=alone)) is not None:
            raise NotTrimmed(why)
        await self._trim(mark)
        return mark

    async def turn(self) -> None:
        """Tell a birth if it is time, and trim what is old enough. Raises as `now`, except NotTrimmed."""
        await self._look()
        if not self._duty.works or not self._keep_ms:
            return
        now_ms = self._replica.shared.time_ms
        newest = self._marks[-1] if self._marks else None
        if newest is None or now_ms - newest.log_ms >= self._keep_ms / MARKS:
            await self._keep(await self._mark())
        old = [mark for mark in self._marks if now_ms - mark.log_ms >= self._keep_ms]
        for mark in reversed(old):
            why = self.refusal(mark)
            if why is None:
                await self._trim(mark)
                return
            if why != self._told:
                self._told = why
                _log.warning("not_trimmed", reason=why)

    async def _run(self) -> None:
        while True:
            try:
                await self.turn()
            except (EventStoreError, SequencerError) as error:
                _log.warning("not_trimmed", reason=str(error))
            await asyncio.sleep(TURN_S)

    async def _mark(self) -> Mark:
        position, at_ms = self._log.position, self._ambient.now_ms()
        log_ms = self._replica.shared.time_ms
        return Mark(await self._replica.tell_birth_again(), position, at_ms, log_ms)

    async def _keep(self, mark: Mark) -> None:
        """Let this node, or the one that takes the work over, trim before it later."""
        await self._put(_Kept(self.trimmed, [*self._marks, mark][-MARKS_MAX:]))

    async def _put(self, kept: _Kept) -> None:
        row = RowPut(MEMBERS_TABLE, _PART, _KEY, json_bytes(msgspec.to_builtins(kept)))
        await self._log.append(Append(ts_ms=self._ambient.now_ms(), rows=(row,)))
        self.trimmed, self._marks = kept.trimmed, kept.births

    def _behind(self, mark: Mark) -> list[str]:
        """The living nodes that have not said yet that they have applied it."""
        duty = self._duty
        behind = [] if self._replica.shared.offset >= mark.offset else [duty.node]
        others = ((node, one) for node, one in duty.members.items() if node != duty.node)
        return behind + [
            node for node, one in others if duty.silent_s(node) < LIVES_S and one.applied < mark.offset
        ]

    def refusal(self, mark: Mark, *, alone: bool = False) -> str | None:
        """Why the log may not be trimmed before this mark."""
        if behind := self._behind(mark):
            return f"{', '.join(behind)} has not applied all before offset {mark.offset}"
        duty, backed_up_ms = self._duty, self._backed_up_ms()
        others = [node for node in duty.members if node != duty.node and duty.silent_s(node) < LIVES_S]
        backed_up = backed_up_ms is not None and backed_up_ms > mark.at_ms
        if not (others or backed_up or alone):
            return (
                "no other node lives and no backup was made since: this disk would hold the only copy. Start"
                " another node, make a backup, or trim with `huahuo cluster trim --alone`"
            )
        return None

    async def _trim(self, mark: Mark) -> None:
        await self._replica.trim(mark.offset)
        await self._look()  # for births that another node has told since
        await self._put(_Kept(mark, [one for one in self._marks if one.offset > mark.offset]))
        self._told = ""
        _log.info("trimmed", before=mark.offset)
        await self._look()

    async def _look(self) -> None:
        """How far the log is trimmed, maybe by another node, and which shreds it has still."""
        rows = await self._log.rows(MEMBERS_TABLE, _PART, after=b"", limit=1)
        for _, value in rows:
            kept = msgspec.json.decode(value, type=_Kept)
            self.trimmed, self._marks = kept.trimmed, kept.births
        while True:
            events = await self._log.read(AUDIT_STREAM, self._audited, events_max=_PAGE_EVENTS)
            if not events:
                break
            self._audited = events[-1].seq
            self.shreds |= {one.position: one.ts_ms for one in events if one.type in SHREDS}
        self.shreds = {at: ms for at, ms in self.shreds.items() if at > self.trimmed.position}
