"""An entity's effects and timers as time travel knows them: `effect/order/1` and `timer/order/1`. Pure."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from huahuo.actors.effects import facts
from huahuo.actors.effects.book import BookDecider
from huahuo.actors.timers.pending import PendingTimers
from huahuo.actors.timers.timer import STREAMS, Timer
from huahuo.eventstore.ambient import rfc3339
from huahuo.replay.history.subject import FoldSubject, Subject

KINDS: Final = (facts.KIND, STREAMS.rstrip("/"))


class EffectsSubject(FoldSubject):
    """`effect/order/1`: the open effects by id."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream, BookDecider())

    def show(self, states: Sequence[Any]) -> dict[str, Any]:
        """See `Subject`."""
        shown: dict[str, Any] = msgspec.to_builtins(states[0], str_keys=True)
        return shown


class TimersSubject(FoldSubject):
    """`timer/order/1`: the pending timers by name."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream, PendingTimers())

    def show(self, states: Sequence[Any]) -> dict[str, Any]:
        """See `Subject`."""
        pending: dict[str, Timer] = states[0]
        return {
            name: {
                "command": timer.command,
                "fields": msgspec.json.decode(timer.fields),
                "due": rfc3339(timer.due_ms),
                "every_s": timer.every_ms / 1000 or None,
            }
            for name, timer in sorted(pending.items())
        }


def work_subject(stream: str) -> Subject | None:
    """The subject of an entity's effects or timers, None for any other stream."""
    kind, _, entity = stream.partition("/")
    if kind not in KINDS or "/" not in entity:
        return None
    return EffectsSubject(stream) if kind == facts.KIND else TimersSubject(stream)
