"""Decisions in a caller's steps, for many entities in one append (`huahuo.actors.entities.together`)."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import structlog

from huahuo.actors.entities.decider import Context, Decision
from huahuo.actors.entities.folded import UNLOADED, FoldedState
from huahuo.eventstore.model import StoredEvent

_log = structlog.get_logger(__name__)

TAKEN_AT_ONCE: Final = 512
"""Events of one decision that are folded without a turn for others."""


class Deciding(FoldedState):
    """See the module. Its caller holds the entity from `decide_now` to `settle` or `forget`."""

    __slots__ = ()

    @property
    def guard(self) -> tuple[str, int] | None:
        """What an append of this entity expects: its stream and seq. None: many write that stream."""
        return (self._stream, self._seq) if self._kind.decider.guarded else None

    def decide_now(self, command: object, context: Context) -> Decision[Any, Any] | None:
        """Decide, for a caller who holds this entity and calls `finish` or `forget` after the append.

        None: nothing was done. The entity is not up to date, or there is a fault, which a message will tell.
        """
        kind = self._kind
        if self._seq != context.head(self._stream):
            return None
        try:
            return kind.decider.decide(self._state, command, context)
        except Exception:  # noqa: BLE001  as a message, it is decided again
            return None

    def advance(self, decision: Decision[Any, Any]) -> bool:
        """Take over the state after a decision that is not durable yet, for a caller who holds this entity.

        The append expects our seq, so the events follow directly. False: its decider has not folded them.
        """
        kind = self._kind
        if decision.after is None or kind.adopt is None or not kind.decider.guarded:
            return False
        self._seq += kind.adopt(self._state, decision.after)
        return True

    def finish(self, decision: Decision[Any, Any], written: Sequence[StoredEvent], *, advanced: bool) -> None:
        """The append of `decide_now` is durable: these are the decision's events. `advanced`: see there.

        Call `settle` after the last one of an append.
        """
        stream = self._stream
        ours = () if advanced else [event for event in written if event.stream == stream]
        if ours and len(ours) <= TAKEN_AT_ONCE:  # else the next message catches up, in parts
            try:
                self._take(ours)
            except Exception:  # noqa: BLE001  a fold may raise anything; the events are durable
                _log.exception("fold_failed_after_append", entity=stream, position=written[-1].position)
        if decision.effects:
            self._start(decision, written[-1].position)

    def settle(self) -> None:
        """All decisions of an append are finished: weigh the state, and store a keyframe if one is due."""
        if self._seq != UNLOADED:
            self._settle()

    def forget(self) -> None:
        """The outcome of an append is not known, and only the log can tell."""
        self._drop()

    def _start(self, decision: Decision[Any, Any], position: int) -> None:
        if decision.effects:
            # After the answer, which is set when this step of the loop returns.
            asyncio.get_running_loop().call_soon(
                self._kind.start_effects, self._stream, decision.effects, position
            )
