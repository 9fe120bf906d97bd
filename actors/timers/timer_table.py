"""Reads and rebuilds the table of timers from the events of all `timer/<kind>/<key>` streams.

`TimersMissing` reads what one entity has pending, for a decision that must know it. `check` refuses to
start while a timer waits for a command that the application does not have.
"""

from collections.abc import Callable, Collection
from typing import Final

from msgspec.structs import replace

from huahuo.actors.entities.entity import Missing
from huahuo.actors.timers.timer import COMMANDS_PART, DUE_PART, STREAMS, TABLE, Known, PendingTimers, from_row
from huahuo.eventstore.model import Append, Keyframe, RowDrop, RowPut
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


_MARK_PART: Final = "rebuilding"
_MARK: Final = b"begun"
_ROWS_AN_APPEND: Final = 5_000


async def was_interrupted(log: Log) -> bool:
    """Whether a `rebuild` did not come to its end, so that the table is not whole."""
    return await log.row(TABLE, _MARK_PART, _MARK) is not None


def _nobody(_done: int, _whole: int) -> None:
    pass


async def rebuild(log: Log, *, now_ms: int, told: Callable[[int, int], None] = _nobody) -> int:
    """Make the table anew, and return how many timers are pending. Nothing may set or fire one meanwhile.

    `told` hears how many streams are done, and of how many. After a crash in between, `was_interrupted` is
    true, and it can be done again.
    """
    first = (RowPut(TABLE, _MARK_PART, _MARK, b""), RowDrop(TABLE, DUE_PART), RowDrop(TABLE, COMMANDS_PART))
    await log.append(Append(ts_ms=now_ms, rows=first))
    count = 0
    rows: list[RowPut | RowDrop] = []
    streams = log.streams(STREAMS)
    for done, stream in enumerate(streams):
        told(done, len(streams))
        loaded = await load(log, stream, PendingTimers())
        for timer in loaded.state.values():
            rows += replace(timer, seq=loaded.seq).puts()
        count += len(loaded.state)
        if len(rows) >= _ROWS_AN_APPEND:
            await log.append(Append(ts_ms=now_ms, rows=tuple(rows)))
            rows.clear()
    await log.append(Append(ts_ms=now_ms, rows=(*rows, RowDrop(TABLE, _MARK_PART, _MARK))))
    return count


_ROWS: Final = 10_000


class UnknownCommand(ValueError):  # noqa: N818  a refusal to start
    """There are timers of a command that the application does not have. The text names it."""


async def check(log: Log, commands: Collection[str], *, now_ms: int) -> None:
    """Compare the commands of all timers with `commands`, each as `<kind>/<stored name>`.

    Names of commands that no timer has any more are removed from the table.

    Raises:
        UnknownCommand: a pending timer has another one.
    """
    if unknown := await without_timers(log, commands):
        gone = tuple(RowDrop(TABLE, COMMANDS_PART, name.encode()) for name in sorted(unknown))
        await log.append(Append(ts_ms=now_ms, rows=gone))


async def without_timers(log: Log, commands: Collection[str]) -> set[str]:
    """The names in the table that are not among `commands`, and that no timer has. Raises as `check`."""
    after, unknown = b"", set[str]()
    while rows := await log.rows(TABLE, COMMANDS_PART, after=after, limit=_ROWS):
        unknown.update({key.decode() for key, _ in rows}.difference(commands))
        after = rows[-1][0]
    if not unknown:
        return unknown
    after = b""
    while rows := await log.rows(TABLE, DUE_PART, after=after, limit=_ROWS):
        for timer in (from_row(*row) for row in rows):
            if f"{timer.kind}/{timer.command}" in unknown:
                raise UnknownCommand(
                    f"a timer of {timer.entity} will send the command {timer.command!r}, and no decide of"
                    f" {timer.kind!r} handles a command of this name: write it, or name="
                    f"{timer.command!r} at the class that took its place"
                )
        after = rows[-1][0]
    return unknown
