"""Refuses to start while a timer waits for a command that the application does not have."""

from collections.abc import Collection
from typing import Final

from huahuo.actors.timers.timer import COMMANDS_PART, DUE_PART, TABLE, from_row
from huahuo.eventstore.model import Append, RowDrop
from huahuo.eventstore.port import Log

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
