"""This node among the others: it says that it lives, does the work of all if it has it, and its share.

Some work one node does for all (`work`, `rest`). The other is divided among the nodes that live
(`divide`): the node that has the work says in the log which those are. Both begin and stop one at a time.

Nodes write the oldest format of proposals until somebody says that all know a newer one. A row of the log
says it, so all nodes hear of it in order. A node that meets a format which it does not know stops and
says so.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import msgspec
import structlog
from msgspec.structs import replace

from huahuo.actors.actor.messages import where
from huahuo.actors.entities.rendezvous_hash import NOTHING, Share
from huahuo.cluster import members
from huahuo.cluster.members import MEMBERS_TABLE, REST_S, SILENT_S, Beat, Heard, Holder, Member
from huahuo.errors import ConfigError
from huahuo.eventstore.ambient import Ambient, json_bytes
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.model import Append, NewEvent, RowPut
from huahuo.eventstore.port import Log
from huahuo.replay.ledger import Ledger

type Call = Callable[[], Awaitable[None]]
type Divide = Callable[[Share], Awaitable[None]]


TURN_S = 0.5
LOOK_S, QUIET_S = 10.0, 60.0
"""How often it is looked whether this node's code knows all of the work, and for how long it must."""
DRAINED, STOPS, LACKS = "drained", "stops", "lacks"
_log = structlog.get_logger(__name__)


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
        self._lacks = ""
        """What the work has that this node's code does not know."""
        self._looked_s = self._lacked_s = 0.0
        """When it was looked for such things last, and when one was there last."""
        self._turned = turned
        self.node = node
        self.members: Mapping[str, Member] = {}
        self._unfit: set[str] = set()
        """Why this node takes no work."""
        self._work = work
        self._rest = rest
        self._divide = divide
        self._changing = asyncio.Lock()
        """Held while work begins or stops: a drain of this node waits for that, not for a turn."""
        self.works = False
        """Whether this node does the work of all now."""
        self._share = NOTHING
        self._log = log
        self._ambient = ambient
        self._tell = tell
        self._holder = Holder()
        self._ledger = Ledger(log, members.WORK_STREAM, self._holder)
        self._heard = Heard()
        self._beat = Beat(log, ambient, lambda: members.put_member(self.node, self.facts()))
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
        divides, stopped = 0 if self._unfit else members.DIVISION, STOPS in self._unfit
        return replace(self._tell(self._beat.number), divides=divides, stopped=stopped)

    def silent_s(self, node: str) -> float:
        """For how long a node has said nothing."""
        return self._heard.silent_s(node, self._ambient.monotonic_s())

    @property
    def undone(self) -> str:
        """Why no node does the work, "" if one does, or if this one could."""
        if not self._lacks or (self.holder and self.silent_s(self.holder) <= SILENT_S):
            return ""
        return f"no node does effects, timers and the rest of the work: {self._lacks}"

    async def look(self) -> None:
        """Read what all nodes say of themselves, as of now."""
        self.members = await members.read_members(self._log)
        self._heard.hear(
            {node: member.beat for node, member in self.members.items()}, self._ambient.monotonic_s()
        )

    async def tell(self) -> None:
        """What this node tells of itself has changed: tell it, if the log answers soon."""
        if self._task is not None:  # else the first words are still to come
            with suppress(TimeoutError):
                async with asyncio.timeout(TURN_S * 2):
                    await self._beat.say()

    async def start(self) -> None:
        """Say that this node lives, and take the work if no node has it.

        Raises:
            ConfigError: another node takes other token keys; or the work has something that this node's code
                does not know, and no other node does it.
            Unavailable, Closed: the log can't be read.
        """
        await self._ledger.start()
        self.members = await members.read_members(self._log)
        members.must_share_keys(self.members, self.node, self._tell(0).keys, self._ambient.now_ms())
        await self._beat.say()
        try:
            await self._turn()
        except ConfigError as error:
            if not self._others_work():
                raise
            await self._leave_to_others(error)
        self._task = asyncio.create_task(self._run(), name="node")
        self._task.add_done_callback(_say_end)

    async def remove(self, node: str) -> None:
        """Forget a node. Raises Unavailable, Closed."""
        await self._log.append(Append(ts_ms=self._ambient.now_ms(), rows=(members.drop_member(node),)))
        self.members = await members.read_members(self._log)

    async def put(self, row: RowPut) -> None:
        """Write a row that all nodes share. Raises Unavailable, Closed."""
        await self._log.append(Append(ts_ms=self._ambient.now_ms(), rows=(row,)))

    async def unfit(self, why: str = DRAINED) -> None:
        """Take no work any more, and leave what this node has to another one."""
        self._unfit.add(why)
        await self._do_nothing()
        await self._ledger.change(self._leave)

    def fit(self, why: str = DRAINED) -> None:
        """This reason is gone: take work again when no node has it, unless there is another reason."""
        self._unfit.discard(why)
        if why == DRAINED:
            self._unfit.discard(LACKS)
            self._lacks = ""

    async def stop(self) -> None:
        """Leave the work to another node, and say that this one stops. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        ending = [one for one in (task, self._beat.cancel()) if one is not None]
        await asyncio.gather(*ending, return_exceptions=True)
        self._ledger.stop()
        self._unfit.add(STOPS)
        await self._do_nothing()
        with suppress(EventStoreError, TimeoutError):  # the others find out by its silence
            async with asyncio.timeout(TURN_S * 2):
                if self.node in (self.holder, *self.sharing):
                    await self._ledger.change(self._leave)
                else:
                    await self.put(members.put_member(self.node, self.facts()))

    # What fails is undone, and the log's error raised: the next turn begins it again.

    async def _begin_work(self) -> None:
        """Begin the work of all. Idempotent."""
        async with self._changing:
            if self.works or self._unfit:
                return
            self.works = True
            try:
                await self._work()
            except EventStoreError:
                self.works = False
                await self._rest()
                raise

    async def _stop_work(self) -> None:
        """Stop the work of all. Idempotent."""
        async with self._changing:
            if self.works:
                self.works = False
                await self._rest()

    async def _do_nothing(self) -> None:
        await self._do_share(NOTHING)
        await self._stop_work()

    async def _do_share(self, share: Share) -> None:
        """Do this part of what is divided, and no other one."""
        async with self._changing:
            if share == self._share or (share != NOTHING and self._unfit):
                return
            self._share = share
            try:
                await self._divide(share)
            except EventStoreError:
                self._share = NOTHING
                await self._divide(NOTHING)
                raise

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
        _log.error("work_not_begun", reason=self._lacks)
        with suppress(EventStoreError):  # the next turn leaves it
            await self.unfit(LACKS)

    async def _look_again(self, now_s: float) -> None:
        """While newer code is at work, what is not known comes and goes: it must be over for a while."""
        if not self._lacks or now_s - self._looked_s < LOOK_S:
            return
        self._looked_s = now_s
        try:
            await self._known()
        except ConfigError as error:
            self._lacks, self._lacked_s = str(error), now_s
            return
        if now_s - self._lacked_s >= QUIET_S:
            self._lacks = ""
            self._unfit.discard(LACKS)
            _log.info("work_known_again")

    async def _turn(self) -> None:
        """Beat if it is time, look who lives, and work or rest accordingly."""
        now_s = self._ambient.monotonic_s()
        self._beat.begin_if_due(now_s)
        if self._beat.undone_s(now_s) > REST_S:
            # Nothing is ordered, or this node slept: other nodes could not be heard either.
            self._heard.forgive(now_s)
            await self._do_nothing()
            return
        if self._turned is not None:
            await self._turned()
        await self._look_again(now_s)
        await self.look()
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

    async def _take(self) -> None:
        before = self.holder
        # With its row, which may still say that this node takes no part.
        await self._ledger.change(
            lambda state: (
                self._append(members.work_taken(self.node), with_row=True)
                if state.node == before  # else another node was faster
                else None
            )
        )
        if self.holder == self.node:
            _log.info("work_taken", before=before or "nobody")

    def _leave(self, state: Holder) -> Append | None:
        """Leave what this node has, and say in its row, in the same commit, that it takes no part."""
        event = members.leave_work(state, self.node)
        return None if event is None else self._append(event, with_row=True)

    def _say_who_shares(self, state: Holder) -> Append | None:
        """Divide among this node and those that live and can do a part. None: that is how it is divided."""
        able = {
            node
            for node, member in self.members.items()
            if (node in state.nodes or self._heard.spoke(node))
            and member.divides == members.DIVISION
            and self.silent_s(node) <= SILENT_S
        }
        nodes = tuple(sorted({self.node, *able}))
        if state.node != self.node or nodes == state.nodes:
            return None
        return self._append(members.work_divided(nodes))

    def _append(self, event: NewEvent, *, with_row: bool = False) -> Append:
        return Append(
            ts_ms=self._ambient.now_ms(),
            principal="service",
            events=(event,),
            rows=(members.put_member(self.node, self.facts()),) if with_row else (),
        )

    async def _take_share(self) -> None:
        """Do the part that is this node's according to the log."""
        found = Share(self.node, self.sharing)
        none = self._unfit or self.node not in found.nodes or self._holder_divides_otherwise()
        await self._do_share(NOTHING if none else found)

    def _holder_divides_otherwise(self) -> bool:
        """Whether a node that divides otherwise has the work. It does this node's part itself."""
        member = self.members.get(self.holder)
        return self.holder != self.node and member is not None and member.divides != members.DIVISION


def _say_end(task: asyncio.Task[None]) -> None:
    """The node takes no turns any more, and no caller waits for that task: say why."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("node_turns_ended", error=type(error).__name__, at=where(error))


LIVES_S = 10.0
FORMAT_PART, FORMAT_KEY = "format", b"written"


class NotFinal(Exception):  # noqa: N818  the condition is the name
    """A node knows only an older format. The text names it."""


class Written(msgspec.Struct, frozen=True):
    """The format that nodes may write."""

    format: int


async def read_format(log: Log) -> int:
    """The format that nodes may write; 0 if no node has said."""
    rows = await log.rows(MEMBERS_TABLE, FORMAT_PART, after=b"", limit=1)
    return max((msgspec.json.decode(value, type=Written).format for _, value in rows), default=0)


async def finalize_format(duty: Duty) -> int:
    """Let the nodes write the newest format that this one knows; returns it.

    Raises:
        NotFinal: a node does not know it, or has not been heard of: forget that one first.
        EventStoreError: the log cannot write.
    """
    me = duty.facts()
    newest = me.format
    for node, member in sorted(duty.members.items()):
        if member.format < newest:
            raise NotFinal(f"the node {node} of build {member.build} knows format {member.format}: update it")
        if member.version != me.version:
            raise NotFinal(f"the node {node} makes the application's rows by other code: update it")
        if node != duty.node and (member.stopped or duty.silent_s(node) > LIVES_S):
            raise NotFinal(f"the node {node} does not run: start it, or `huahuo cluster remove {node}`")
    await duty.put(RowPut(MEMBERS_TABLE, FORMAT_PART, FORMAT_KEY, json_bytes({"format": newest})))
    return newest
