"""Who has the work: a fold of the stream `cluster`, and when a node may take it over. Pure.

The node that has the work lends places, trims the ordered log, and says among which nodes the rest is
divided: effects, timers, followers, mailboxes and webhooks (`huahuo.actors.entities.sharing`). Both stand in
events, so every node agrees on them. Two nodes that believe they have the same for a moment do no harm: each
append of that work expects the head of a stream.
"""

import msgspec

from huahuo.eventstore.ambient import json_bytes
from huahuo.eventstore.model import NewEvent, StoredEvent

STREAM = "cluster"
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
        self.seq = 0
        self.node = ""
        self.nodes: tuple[str, ...] = ()

    def apply(self, event: StoredEvent) -> None:
        """See `Folded`."""
        self.seq = event.seq
        if event.type == TAKEN:
            self.node = msgspec.json.decode(event.body, type=_Body).node
        elif event.type == LEFT:
            self.nodes = tuple(node for node in self.nodes if node != self.node)
            self.node = ""
        elif event.type == DIVIDED:
            self.nodes = msgspec.json.decode(event.body, type=_Divided).nodes


def taken(node: str) -> NewEvent:
    """`node` takes the work over."""
    return NewEvent(STREAM, TAKEN, json_bytes({"type": TAKEN, "node": node}))


def left(node: str) -> NewEvent:
    """`node` leaves the work to another one, because it stops."""
    return NewEvent(STREAM, LEFT, json_bytes({"type": LEFT, "node": node}))


def divided(nodes: tuple[str, ...]) -> NewEvent:
    """These nodes do a part each of what is divided."""
    return NewEvent(STREAM, DIVIDED, json_bytes({"type": DIVIDED, "nodes": nodes}))


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
