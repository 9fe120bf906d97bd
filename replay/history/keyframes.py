"""States of a fold: computed from the newest keyframe and the events after it, and when to make a new one.

A keyframe only saves time. If it is missing, unreadable or made by other code, it is ignored and the stream
is folded from its beginning.
"""

from collections.abc import Callable

import msgspec
import structlog

from huahuo.eventstore.limits import INT64_MAX
from huahuo.eventstore.model import StoredEvent
from huahuo.replay.history.history import History, pages_of, place
from huahuo.replay.history.subject import Fold

_log = structlog.get_logger(__name__)

_PAGE_EVENTS_MAX = 1024
"""Folding one page blocks the loop for a few milliseconds."""
_PAGE_BYTES_MAX = 1 << 20
FRAME_EVERY = 4096
"""Events between the keyframes that a reader makes for itself."""
_FRAMES_MAX = 256
_FRAME_BYTES_MAX = 1 << 20


class Loaded[S](msgspec.Struct, frozen=True):
    """A state after event `seq`. `framed` is the seq of the keyframe that it was built on (0: none)."""

    seq: int
    state: S
    framed: int


async def state_at[S](log: History, stream: str, fold: Fold[S], *, at: int | None = None) -> tuple[int, S]:
    """As `load`: the seq and the state alone."""
    loaded = await load(log, stream, fold, at=at)
    return loaded.seq, loaded.state


async def load[S](
    log: History, stream: str, fold: Fold[S], *, at: int | None = None, frames_from: int = 1,
    window: int = 0, evolve: Callable[[S, StoredEvent], S] | None = None, own: dict[int, bytes] | None = None,
) -> Loaded[S]:  # fmt: skip
    """The state of `fold` after event `at` of `stream` (None: after the newest).

    An `at` beyond the head means the head. Events that were compacted away are skipped, since compaction
    keeps all events that a fold needs. For fewer than `frames_from` events no keyframe is looked up, because
    reading the events is as fast. `window`: only so many of the newest events are folded (0: all).
    `evolve`: in place of the fold's own. `own`: keyframes that the reader keeps; long runs add to them.

    Raises:
        Closed, Unavailable: the log could not be read.
    """
    head = log.head(stream)
    until = head.seq if at is None else min(at, head.seq)
    framed, state = 0, fold.initial(stream)
    if until >= frames_from or head.first > 1:
        framed, state = await _from_keyframe(log, stream, fold, until, state)
    nearest = max((seq for seq in own or () if seq <= until), default=0)
    if own and nearest > framed:
        framed, state = nearest, fold.load(stream, own[nearest])
    kept, after = framed, max(framed, until - window) if window else framed
    evolve = evolve or fold.evolve
    async for page in pages_of(
        log, stream, after, until, events_max=_PAGE_EVENTS_MAX, bytes_max=_PAGE_BYTES_MAX
    ):
        for event in page:
            state = evolve(state, event)
        if own is not None and place(page[-1], stream) - kept >= FRAME_EVERY:
            kept = place(page[-1], stream)
            _keep(own, kept, fold.dump(state))
    return Loaded(until, state, framed)


def _keep(frames: dict[int, bytes], seq: int, data: bytes) -> None:
    if len(data) <= _FRAME_BYTES_MAX:
        frames[seq] = data
    if len(frames) > _FRAMES_MAX:
        for other in sorted(frames)[::2]:
            del frames[other]


async def _from_keyframe[S](
    log: History, stream: str, fold: Fold[S], until: int, otherwise: S
) -> tuple[int, S]:
    frame = await log.keyframe(stream, fold.name, fold.fingerprint, at=until)
    if frame is not None:
        try:
            return frame.seq, fold.load(stream, frame.state)
        except ValueError:
            _log.warning("keyframe_unreadable", stream=stream, fold=fold.name, seq=frame.seq)
    return 0, otherwise


class KeyframePolicy(msgspec.Struct, frozen=True):
    """When to make a keyframe: after `every` events, or after `leaving` events if the state leaves memory.

    For a large state the distance is greater, so that keyframes cost at most `bytes_per_event_max` per event.
    """

    every: int = 1000
    leaving: int = 50
    bytes_per_event_max: int = 256

    def with_every(self, every: int) -> "KeyframePolicy":
        """One that makes a keyframe after `every` events, whatever the size of the state."""
        return KeyframePolicy(every, min(self.leaving, every), INT64_MAX)

    def due(self, events: int, *, size: int = 0, leaving: bool = False) -> bool:
        """Whether to make one now, `events` after the last one, which had `size` bytes (0: not known)."""
        return events >= max(self.leaving if leaving else self.every, size // self.bytes_per_event_max)
