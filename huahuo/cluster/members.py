"""The nodes of a log: a row that each writes every two seconds, and which of them has the work.

A node notices when its beat is not ordered any more. A node without a replica finds the living ones in
the ordered log alone. `Holder` folds the stream `cluster`: the node that has the work lends places, trims
the ordered log, and says among which nodes the rest is divided. Both stand in events, so every node
agrees on them. Two nodes that believe for a moment that they have the same do no harm. Clocks of machines
are not compared: each node was heard by this one's clock.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
import structlog

from huahuo.errors import ConfigError
from huahuo.eventstore.ambient import Ambient, json_bytes
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.model import Append, NewEvent, RowDrop, RowPut, StoredEvent
from huahuo.eventstore.port import Log
from huahuo.eventstore.replicated.proposal import Codec
from huahuo.eventstore.sequencer.port import Sequencer

MEMBERS_TABLE = "cluster"
_PART = "nodes"
NODES_MAX = 1000
DIVISION = 2
"""How this version divides the work. Nodes of versions that divide otherwise do no part of it."""
LIVES_MS = 60_000
"""A node whose newest row is older than this is not asked for its keys."""


class Member(msgspec.Struct, frozen=True):
    """What a node says of itself. `beat` counts; `keys` is a mark of the token keys that it takes.

    `load`: the part of one core that its process used lately.
    """

    url: str
    build: str
    keys: str
    beat: int
    at_ms: int
    applied: int
    connections: int = 0
    format: int = 1
    """The newest format of proposals that it knows."""
    load: float = 0.0
    takes_clients: bool = True
    """Whether it is ready: not drained, its clock not wrong, its replica in order."""
    divides: int = 0
    """`DIVISION` of its version, or 0 if it does no part. Older versions have no number."""
    stopped: bool = False
    """Whether it has been stopped in order. Its next start takes this back."""
    version: str = ""
    """A fingerprint of the code by which the application on it writes rows."""


def put_member(node: str, member: Member) -> RowPut:
    """The row of `node`."""
    return RowPut(MEMBERS_TABLE, _PART, node.encode(), json_bytes(msgspec.to_builtins(member)))


def drop_member(node: str) -> RowDrop:
    """`node` is a member no more."""
    return RowDrop(MEMBERS_TABLE, _PART, node.encode())


async def read_members(log: Log) -> Mapping[str, Member]:
    """All nodes that this log knows, by name."""
    rows = await log.rows(MEMBERS_TABLE, _PART, after=b"", limit=NODES_MAX)
    return {key.decode(): msgspec.json.decode(value, type=Member) for key, value in rows}


def must_share_keys(now: Mapping[str, Member], node: str, keys: str, now_ms: int) -> None:
    """The token keys of `node`, whose marks are `keys`, must be among those of each node that lives.

    Raises:
        ConfigError: another one takes none of them.
    """
    mine = set(keys.split(","))
    for other, member in now.items():
        lives = member.at_ms > now_ms - LIVES_MS
        if other != node and lives and not mine & set(member.keys.split(",")):
            raise ConfigError(
                f"the node {other} takes tokens of another key than this one: give all nodes the same"
                " jwt.secret or HUAHUO_JWT_SECRET (while you rotate it, with the older one as previous)"
            )


def is_row_of(row: RowPut) -> bool:
    """Whether it is the row of a node."""
    return (row.table, row.part) == (MEMBERS_TABLE, _PART)


BEAT_S: Final = 2.0
_log = structlog.get_logger(__name__)


class Beat:
    """A node says every two seconds that it lives, and notices when that is not ordered any more.

    `row`: what the node says of itself now.
    """

    def __init__(self, log: Log, ambient: Ambient, row: Callable[[], RowPut]) -> None:
        self._log = log
        self._ambient = ambient
        self._row = row
        self.number = 0
        self._begun_s = -BEAT_S
        self._durable_s = ambient.monotonic_s()
        self._failed = ""
        """Why the last beat failed, so that the same reason is logged once."""
        self._task: asyncio.Task[None] | None = None

    def begin_if_due(self, now_s: float) -> None:
        """Begin the next one when it is time and the last one has ended. It is not waited for."""
        if self._task is not None and self._task.done():
            self._task = None
        if self._task is None and now_s - self._begun_s >= BEAT_S:
            self._task = asyncio.create_task(self.say(), name="beat")

    def undone_s(self, now_s: float) -> float:
        """For how long none has been durable."""
        return now_s - self._durable_s

    async def say(self) -> None:
        """Write one now."""
        self._begun_s = self._ambient.monotonic_s()
        self.number += 1
        row = self._row()
        try:
            await self._log.append(Append(ts_ms=self._ambient.now_ms(), rows=(row,)))
        except EventStoreError as error:
            if str(error) != self._failed:
                self._failed = str(error)
                _log.warning("beat_failed", reason=self._failed)
        else:
            self._failed = ""
            self._durable_s = self._ambient.monotonic_s()

    def cancel(self) -> asyncio.Task[None] | None:
        """Begin no more. Returns the one that was under way, cancelled; None if none was."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        return task


LISTEN_S = 3 * BEAT_S


async def living_nodes(
    sequencer: Sequencer, codec: Codec, last: int, me: str, *, within_s: float = LISTEN_S
) -> dict[str, Member]:
    """The other nodes that say within this time that they live. Raises as `Sequencer.follow`."""
    found: dict[str, Member] = {}
    ordered = sequencer.follow(last)
    try:
        async with asyncio.timeout(within_s) as listening:
            async for one in ordered:
                proposal = codec.decode(one.proposal)
                for item in () if proposal is None else proposal.items:
                    for row in () if item.append is None else item.append.rows:
                        if isinstance(row, RowPut) and is_row_of(row) and row.key.decode() != me:
                            if not found:  # the others say so within the same time
                                listening.reschedule(asyncio.get_running_loop().time() + BEAT_S)
                            found[row.key.decode()] = msgspec.json.decode(row.value, type=Member)
    except TimeoutError:
        pass
    finally:
        await ordered.aclose()
    return {node: member for node, member in found.items() if member.url}


LEAST_S: Final = 1.0
"""A shorter time says little: a question that comes sooner gets the last answer."""


class Load:
    """The part of one core that this process used lately."""

    def __init__(self, ambient: Ambient) -> None:
        self._ambient = ambient
        self._at_s, self._used_s = ambient.monotonic_s(), ambient.process_s()
        self._last = 0.0

    def lately(self) -> float:
        """Since the last question; 1.0 is one core."""
        at_s, used_s = self._ambient.monotonic_s(), self._ambient.process_s()
        if at_s - self._at_s >= LEAST_S:
            self._last = (used_s - self._used_s) / (at_s - self._at_s)
            self._at_s, self._used_s = at_s, used_s
        return self._last


WORK_STREAM = "cluster"
TAKEN, LEFT, DIVIDED = "work_taken", "work_left", "work_divided"
SILENT_S = 6.0
"""A node that said nothing for this long, while others could, has lost the work."""
REST_S = 4.0
"""A node that could say nothing for this long rests by itself: less than `SILENT_S`."""


class _Body(msgspec.Struct):
    node: str


class _Divided(msgspec.Struct):
    nodes: tuple[str, ...]


class Holder:
    """The node that has the work, "" for none, and the nodes that do a part of what is divided."""

    def __init__(self) -> None:
        self.node = ""
        self.nodes: tuple[str, ...] = ()

    def apply(self, event: StoredEvent) -> None:
        """See `Folded`."""
        if event.type == TAKEN:
            self.node = msgspec.json.decode(event.body, type=_Body).node
        elif event.type == LEFT:
            self.nodes = tuple(node for node in self.nodes if node != self.node)
            self.node = ""
        elif event.type == DIVIDED:
            self.nodes = msgspec.json.decode(event.body, type=_Divided).nodes


def work_taken(node: str) -> NewEvent:
    """`node` takes the work over."""
    return NewEvent(WORK_STREAM, TAKEN, json_bytes({"type": TAKEN, "node": node}))


def work_left(node: str) -> NewEvent:
    """`node` leaves the work to another one, because it stops."""
    return NewEvent(WORK_STREAM, LEFT, json_bytes({"type": LEFT, "node": node}))


def work_divided(nodes: tuple[str, ...]) -> NewEvent:
    """These nodes do a part each of what is divided."""
    return NewEvent(WORK_STREAM, DIVIDED, json_bytes({"type": DIVIDED, "nodes": nodes}))


class Heard:
    """When each node was heard last, by this node's own clock: clocks of machines are not compared."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, float]] = {}
        self._spoke: set[str] = set()
        self._began = False

    def hear(self, beats: dict[str, int], now_s: float) -> None:
        """These are the nodes' newest beats."""
        for node, beat in beats.items():
            known = self._last.get(node)
            if known is None or known[0] != beat:
                self._last[node] = (beat, now_s)
                if self._began:
                    self._spoke.add(node)
        self._began = True

    def spoke(self, node: str) -> bool:
        """Whether it said anything since this node began to listen: a row may be of long ago."""
        return node in self._spoke

    def forgive(self, now_s: float) -> None:
        """Nothing was to be heard of anybody meanwhile: count all silence from now."""
        self._last = {node: (beat, now_s) for node, (beat, _) in self._last.items()}

    def silent_s(self, node: str, now_s: float) -> float:
        """For how long `node` has said nothing; for ever, if it never did."""
        known = self._last.get(node)
        return float("inf") if known is None else now_s - known[1]


def leave_work(state: Holder, node: str) -> NewEvent | None:
    """`node` leaves what it has to the others."""
    if state.node == node:
        return work_left(node)
    if node in state.nodes:
        return work_divided(tuple(one for one in state.nodes if one != node))
    return None
