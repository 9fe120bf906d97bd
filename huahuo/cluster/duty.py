"""This node among the others: it says that it lives, does the work of all if it has it, and its share.

Some work one node does for all (`work`, `rest`). The other is divided among the nodes that live (`divide`):
the node that has the work says in the log which those are.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import structlog
from msgspec.structs import replace

from huahuo.actors.actor.errors import where
from huahuo.actors.entities.sharing import NOTHING, Share
from huahuo.cluster import holder, members
from huahuo.cluster.holder import REST_S, SILENT_S, Heard, Holder
from huahuo.cluster.members import Member
from huahuo.errors import ConfigError
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.model import Append, NewEvent, RowPut
from huahuo.eventstore.port import Log
from huahuo.ledger import Ledger

BEAT_S = 2.0
TURN_S = 0.5
LOOK_S, QUIET_S, QUIET_MAX_S = 10.0, 60.0, 3_600.0
"""How often a node that left the work to others looks whether its code knows all of it, and for how long it
must have known all before it does a part again: while newer code is at work, it comes and goes. Twice as long
after each time that it had to leave again, up to the last."""
DRAINED, STOPS, LACKS = "drained", "stops", "lacks"
LIVES_MS = 60_000
"""A node whose newest row is older than this is not asked for its keys."""
_log = structlog.get_logger(__name__)

type Call = Callable[[], Awaitable[None]]
type Divide = Callable[[Share], Awaitable[None]]


async def _not_divided(_share: Share) -> None:
    pass


async def _nothing_lacks() -> None:
    pass


class Duty:
    """See the module. `work`, `rest` and `divide` are never called at once."""

    def __init__(
        self,
        *,
        log: Log,
        ambient: Ambient,
        node: str,
        tell: Callable[[int], Member],
        work: Call,
        rest: Call,
        divide: Divide = _not_divided,
        known: Call = _nothing_lacks,
        turned: Call | None = None,
    ) -> None:
        """`tell`: what this node says of itself, with its beat. `turned`: called in each turn.

        `work`, `rest`: begin and stop what one node does for all. `divide`: this node's part of the rest.
        `known`: raises ConfigError while the work has something that this node's code does not know.
        """
        self._known = known
        self._looked_s = self._lacked_s = 0.0
        """When this node looked last whether it knows all of the work, and when it did not last."""
        self._quiet_s, self._came_back = QUIET_S, False
        self._turned = turned
        self.node = node
        self.members: Mapping[str, Member] = {}
        self.works = False
        self._unfit: set[str] = set()
        """Why this node takes no work."""
        self._lacks = ""
        """What the work has that this node's code does not know."""
        self._changing = asyncio.Lock()
        """Held while the work begins or stops: a drain of this node does not wait for a turn."""
        self._log = log
        self._ambient = ambient
        self._tell = tell
        self._work = work
        self._rest = rest
        self._divide = divide
        self._share = NOTHING
        self._holder = Holder()
        self._ledger = Ledger(log, holder.STREAM, self._holder)
        self._heard = Heard()
        self._beat = 0
        self._failed = ""
        """Why the last beat failed, so that the same reason is logged once."""
        self._beaten_s = -BEAT_S
        """When the last beat was begun, and when one was durable last."""
        self._durable_s = ambient.monotonic_s()
        self._beating: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def holder(self) -> str:
        """The node that has the work, "" for none."""
        return self._holder.node

    @property
    def sharing(self) -> tuple[str, ...]:
        """The nodes that do a part of the work that is divided."""
        return self._holder.nodes

    def facts(self) -> Member:
        """What this node says of itself now."""
        return replace(self._tell(self._beat), divides=0 if self._unfit else members.DIVISION)

    def silent_s(self, node: str) -> float:
        """For how long a node has said nothing."""
        return self._heard.silent_s(node, self._ambient.monotonic_s())

    @property
    def undone(self) -> str:
        """Why no node does the work, "" if one does, or if this one could."""
        if not self._lacks or (self.holder and self.silent_s(self.holder) <= SILENT_S):
            return ""
        return f"no node does effects, timers and the rest of the work: {self._lacks}"

    def tell_soon(self) -> None:
        """What this node tells of itself has changed: tell it in the next turn."""
        self._beaten_s = -BEAT_S

    async def start(self) -> None:
        """Say that this node lives, and take the work if no node has it.

        Raises:
            ConfigError: another node takes other token keys; or the work has something that this node's code
                does not know, and no other node does it.
            Unavailable, Closed: the log can't be read.
        """
        await self._ledger.start()
        self.members = await members.read(self._log)
        self._must_share_keys()
        await self._say()
        try:
            await self._turn()
        except ConfigError as error:
            if not self._others_work():
                raise
            await self._leave_to_others(error)
        self._task = asyncio.create_task(self._run(), name="node")
        self._task.add_done_callback(_say_end)

    def _must_share_keys(self) -> None:
        now_ms = self._ambient.now_ms()
        mine = set(self._tell(0).keys.split(","))
        for node, member in self.members.items():
            lives = member.at_ms > now_ms - LIVES_MS
            if node != self.node and lives and not mine & set(member.keys.split(",")):
                raise ConfigError(
                    f"the node {node} takes tokens of another key than this one: give all nodes the same"
                    " jwt.secret or HUAHUO_JWT_SECRET (while you rotate it, with the older one as previous)"
                )

    async def remove(self, node: str) -> None:
        """Forget a node. Raises Unavailable, Closed."""
        await self._log.append(Append(ts_ms=self._ambient.now_ms(), rows=(members.drop(node),)))
        self.members = await members.read(self._log)

    async def put(self, row: RowPut) -> None:
        """Write a row that all nodes share. Raises Unavailable, Closed."""
        await self._log.append(Append(ts_ms=self._ambient.now_ms(), rows=(row,)))

    async def unfit(self, why: str = DRAINED) -> None:
        """Take no work any more, and leave what this node has to another one."""
        self._unfit.add(why)
        await self._stop_all()
        await self._ledger.change(self._leave)

    def fit(self, why: str = DRAINED) -> None:
        """This reason is gone: take work again when no node has it, unless there is another reason."""
        self._unfit.discard(why)
        if why == DRAINED:
            self._lacks_nothing()
            self._came_back = False

    async def stop(self) -> None:
        """Leave the work to another node. Idempotent."""
        tasks = [task for task in (self._task, self._beating) if task is not None]
        self._task = self._beating = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._ledger.stop()
        self._unfit.add(STOPS)
        await self._stop_all()
        if self.node in (self.holder, *self.sharing):
            try:
                async with asyncio.timeout(TURN_S * 2):
                    await self._ledger.change(self._leave)
            except (EventStoreError, TimeoutError):
                pass  # the others find out by its silence

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(TURN_S)
            try:
                await self._turn()
            except EventStoreError as error:
                _log.warning("node_turn_failed", reason=str(error))
            except ConfigError as error:
                await self._leave_to_others(error)

    def _others_work(self) -> bool:
        """Whether another node lives that does a part. In an update, it may know what this one does not."""
        since_ms = self._ambient.now_ms() - round(2000 * SILENT_S)
        others = [member for node, member in self.members.items() if node != self.node]
        return any(one.at_ms > since_ms and one.divides == members.DIVISION for one in others)

    async def _leave_to_others(self, error: ConfigError) -> None:
        """The work has something that this node's code does not know."""
        self._lacks = str(error)
        self._looked_s = self._lacked_s = self._ambient.monotonic_s()
        self._quiet_s = min(2 * self._quiet_s, QUIET_MAX_S) if self._came_back else QUIET_S
        self._came_back = False
        _log.error("work_not_begun", reason=self._lacks)
        with suppress(EventStoreError):  # the next turn leaves it
            await self.unfit(LACKS)

    def _lacks_nothing(self) -> None:
        self._unfit.discard(LACKS)
        self._lacks = ""

    async def _look_again(self, now_s: float) -> None:
        """What this node's code did not know may be over: then it does its part again."""
        if LACKS not in self._unfit or now_s - self._looked_s < LOOK_S:
            return
        self._looked_s = now_s
        try:
            await self._known()
        except ConfigError as error:
            self._lacks, self._lacked_s = str(error), now_s
            return
        if now_s - self._lacked_s >= self._quiet_s:
            self._lacks_nothing()
            self._came_back = True
            _log.info("work_known_again")

    async def _turn(self) -> None:
        """Beat if it is time, look who lives, and work or rest accordingly."""
        now_s = self._ambient.monotonic_s()
        if self._beating is not None and self._beating.done():
            self._beating = None
        if self._beating is None and now_s - self._beaten_s >= BEAT_S:
            self._beating = asyncio.create_task(self._say(), name="beat")
        cut_off_s = now_s - self._durable_s
        if cut_off_s > REST_S:
            # Nothing is ordered, or this node slept: other nodes could not be heard either.
            self._heard.forgive(now_s)
            await self._stop_all()
            return
        if self._turned is not None:
            await self._turned()
        await self._look_again(now_s)
        self.members = await members.read(self._log)
        self._heard.hear({node: member.beat for node, member in self.members.items()}, now_s)
        if self._may_take():
            await self._take()
        if self.holder != self.node:
            await self._stop_work()
        elif not self._unfit:
            await self._begin_work()
            await self._ledger.change(self._say_who_shares)
        if self._unfit and self.node in (self.holder, *self.sharing):
            # It was taken while this node became unfit, or could not be left then.
            await self._ledger.change(self._leave)
        await self._take_share()

    def _may_take(self) -> bool:
        if self._unfit or self.holder == self.node:
            return False
        return not self.holder or self.silent_s(self.holder) > SILENT_S

    async def _say(self) -> None:
        self._beaten_s = self._ambient.monotonic_s()
        self._beat += 1
        row = members.put(self.node, self.facts())
        try:
            await self._log.append(Append(ts_ms=self._ambient.now_ms(), rows=(row,)))
        except EventStoreError as error:
            if str(error) != self._failed:
                self._failed = str(error)
                _log.warning("beat_failed", reason=self._failed)
        else:
            self._failed = ""
            self._durable_s = self._ambient.monotonic_s()

    async def _take(self) -> None:
        before = self.holder

        def take(state: Holder) -> Append | None:
            if state.node != before:
                return None  # another node was faster
            # With its row, which may still say that this node takes no part.
            return replace(
                self._append(state, holder.taken(self.node)), rows=(members.put(self.node, self.facts()),)
            )

        await self._ledger.change(take)
        if self.holder == self.node:
            _log.info("work_taken", before=before or "nobody")

    def _leave(self, state: Holder) -> Append | None:
        """Leave what this node has, and say in its row, in the same commit, that it takes no part."""
        if state.node == self.node:
            leaving = self._append(state, holder.left(self.node))
        elif self.node in state.nodes:
            others = tuple(one for one in state.nodes if one != self.node)
            leaving = self._append(state, holder.divided(others))
        else:
            return None
        return replace(leaving, rows=(members.put(self.node, self.facts()),))

    def _say_who_shares(self, state: Holder) -> Append | None:
        """Divide among this node and those that live and can do a part. None: that is how it is divided."""
        if state.node != self.node:
            return None
        nodes = {self.node}
        for node, member in self.members.items():
            known = node in state.nodes or self._heard.spoke(node)
            if known and member.divides == members.DIVISION and self.silent_s(node) <= SILENT_S:
                nodes.add(node)
        found = tuple(sorted(nodes))
        return None if found == state.nodes else self._append(state, holder.divided(found))

    def _append(self, state: Holder, event: NewEvent) -> Append:
        expected = {holder.STREAM: state.seq}
        return Append(ts_ms=self._ambient.now_ms(), principal="service", expected=expected, events=(event,))

    async def _begin_work(self) -> None:
        async with self._changing:
            if self.works or self._unfit:
                return
            self.works = True
            try:
                await self._work()
            except EventStoreError:  # the next turn begins it again
                self.works = False
                await self._rest()
                raise

    async def _stop_work(self) -> None:
        async with self._changing:
            if self.works:
                self.works = False
                await self._rest()

    async def _stop_all(self) -> None:
        await self._set_share(NOTHING)
        await self._stop_work()

    async def _take_share(self) -> None:
        """Do the part that is this node's according to the log."""
        found = Share(self.node, self.sharing)
        none = self._unfit or self.node not in found.nodes or self._holder_divides_otherwise()
        await self._set_share(NOTHING if none else found)

    def _holder_divides_otherwise(self) -> bool:
        """Whether a node that divides otherwise has the work. It does this node's part itself."""
        member = self.members.get(self.holder)
        return self.holder != self.node and member is not None and member.divides != members.DIVISION

    async def _set_share(self, share: Share) -> None:
        async with self._changing:
            if share == self._share or (self._unfit and share != NOTHING):
                return
            self._share = share
            try:
                await self._divide(share)
            except EventStoreError:  # the next turn tries it again
                self._share = NOTHING
                await self._divide(NOTHING)
                raise


def _say_end(task: asyncio.Task[None]) -> None:
    """The node takes no turns any more, and no caller waits for that task: say why."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("node_turns_ended", error=type(error).__name__, at=where(error))
