"""The state of an entity: the fold of its stream, kept up to the head.

The log can restore everything kept here: when the outcome of an append is unknown or a fold fails, the state
is dropped and loaded again.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from huahuo.actors.actor.loop_actor import LoopActor
from huahuo.actors.actor.messages import Envelope
from huahuo.actors.entities.kind import Kind
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.model import StoredEvent
from huahuo.replay.history.keyframes import load

UNLOADED = -1
"""The seq of an entity whose state is not in memory."""
_RUN_EVENTS_MAX = 1024
_RUN_BYTES_MAX = 1 << 20


class FoldFailed(msgspec.Struct, frozen=True):
    """A fold raised this. As a message to the entity itself, it fails its actor."""

    error: Exception


class Folded(LoopActor):
    """Invariant: between two messages it has the state after event `_seq`, or is unloaded."""

    # 100,000 entities may be in memory. All attributes, also of the bases, are slots: no instance has a dict.
    __slots__ = (
        "_actor_ref", "_frame_bytes", "_framed", "_kind", "_seq", "_state", "_stream", "_weight",
        "actor_inbox",
    )  # fmt: skip

    def __init__(self, kind: Kind, stream: str) -> None:
        super().__init__()
        self._kind = kind
        self._stream = stream
        self._seq = UNLOADED
        self._state: Any = None
        self._framed = 0
        self._frame_bytes = 0
        self._weight = 0

    def on_stop(self) -> None:
        """Store a keyframe if loading again would take long."""
        self._offer_keyframe(leaving=True)
        self._drop()

    def on_failure(self, *_: object) -> None:
        """Drop the state: a new object takes over the inbox and loads its own."""
        self._drop()

    def load_from(self, events: Sequence[StoredEvent]) -> None:
        """Take the whole stream, for a caller who holds this entity and has read it.

        Nothing happens if it is not whole, or cannot be folded: the next message then loads it and says so.
        """
        if self._seq != UNLOADED or not events or events[0].seq != 1:
            return
        if events[-1].seq != self._kind.feed.head(self._stream).seq:
            return
        decider = self._kind.decider
        try:
            state = decider.initial(self._stream)
            for event in events:
                state = decider.evolve(state, event)
        except Exception:  # noqa: BLE001  a fold may raise anything
            return
        self._state, self._seq = state, events[-1].seq
        self._settle()

    async def _catch_up(self) -> None:
        """Fold up to the head. Returns in the step of the loop in which the head was read."""
        if self._seq == UNLOADED:
            await self._load()
        feed, stream = self._kind.feed, self._stream
        while self._seq < feed.head(stream).seq:
            run = feed.peek(stream, self._seq, events_max=_RUN_EVENTS_MAX, bytes_max=_RUN_BYTES_MAX)
            if run is None:
                run = await feed.fetch(
                    stream, self._seq, events_max=_RUN_EVENTS_MAX, bytes_max=_RUN_BYTES_MAX
                )
            self._take(run.events)
            self._seq = run.last
            if self._seq < feed.head(stream).seq:
                await asyncio.sleep(0)  # far behind: let others use the loop

    def _take(self, events: Sequence[StoredEvent]) -> None:
        """Evolve with those of `events` that follow directly.

        After a gap (another writer appended in between) the next catch-up continues.
        """
        evolve = self._kind.decider.evolve
        try:
            for event in events:
                if event.seq == self._seq + 1:
                    self._state = evolve(self._state, event)
                    self._seq = event.seq
            self._settle()
        except Exception as error:
            self._fail(error)
            raise

    def _fail(self, error: Exception) -> None:
        """Drop the state, which cannot be trusted, and tell the supervisor.

        An exception that answers an ask stops no actor, so a message carries the failure.
        """
        self._drop()
        self.actor_inbox.put_unbounded(Envelope(FoldFailed(error)))

    async def _load(self) -> None:
        try:
            async with self._kind.loads:
                kind = self._kind
                frames_from = kind.policy.leaving
                loaded = await load(kind.log, self._stream, kind.decider, frames_from=frames_from)
            self._seq, self._state, self._framed = loaded.seq, loaded.state, loaded.framed
            self._settle()
        except EventStoreError:
            raise  # a fault of the log, not of this entity
        except Exception as error:
            self._fail(error)
            raise

    def _settle(self) -> None:
        weigh = self._kind.weigh
        if weigh is not None:
            weight = weigh(self._state)
            self._kind.weight += weight - self._weight
            self._weight = weight
        self._offer_keyframe()

    def _offer_keyframe(self, *, leaving: bool = False) -> None:
        kind, events = self._kind, self._seq - self._framed
        policy = kind.policy
        if events < (policy.leaving if leaving else policy.every):
            return  # the usual case, without a call
        if events > 0 and policy.due(events, size=self._frame_bytes, leaving=leaving):
            if self._seq > kind.feed.head(self._stream).seq:
                return  # ahead of an append that is not durable
            size = kind.keyframes.offer(self._stream, kind.decider, self._seq, self._state)
            if size is not None:
                self._framed, self._frame_bytes = self._seq, size

    def _drop(self) -> None:
        self._kind.weight -= self._weight
        self._weight = 0
        self._state = None
        self._seq = UNLOADED
        self._framed = 0
