"""Reads what an entity has pending, for a decision that must know it."""

from typing import Final

from huahuo.actors.entities.missing import Missing
from huahuo.actors.timers.known import Known
from huahuo.actors.timers.pending import PendingTimers
from huahuo.actors.timers.timer import STREAMS
from huahuo.eventstore.model import Keyframe
from huahuo.eventstore.port import Log
from huahuo.replay.history.keyframes import load

_FRAME_EVENTS: Final = 200
"""After as many events, a keyframe is stored, so that an `Every` of years is not read from its beginning."""
_FOLD: Final = PendingTimers()


class TimersMissing(Missing):
    """The timers of an entity are not in memory."""

    def __init__(self, entity: str, known: Known) -> None:
        super().__init__(entity)
        self._entity = entity
        self._known = known

    async def read(self, log: Log) -> None:
        """See `Missing`. What is read is used only if the head is still that one."""
        stream = STREAMS + self._entity
        loaded = await load(log, stream, _FOLD, frames_from=_FRAME_EVENTS)
        if loaded.seq - loaded.framed >= _FRAME_EVENTS:
            frame = Keyframe(stream, _FOLD.name, _FOLD.fingerprint, loaded.seq, _FOLD.dump(loaded.state))
            await log.put_keyframe(frame)
        self._known.learn(loaded.seq, {name: timer.due_ms for name, timer in loaded.state.items()})
