"""Rounds of due timers: the firings of one round share appends where they can."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Collection, Iterable
from itertools import batched
from typing import Final, Protocol

from huahuo.actors.entities.errors import EntityError
from huahuo.actors.timers.ports import Fires, Group
from huahuo.actors.timers.timer import Due, Timer
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.model import StoredEvent

_LOAD_S: Final = 5.0
_PASS_SHARE: Final = 16
"""A pass that fires less than this part of what is left is the last one."""
_WAITS_MAX: Final = 16
"""How often at most a pass that found every entity busy waits for an append of another round."""
_STRETCH: Final = 128
"""After this many decisions, other work on the loop has its turn."""

type _Members = dict[str, Due]
"""The timers of a group, by the ids of their commands."""


class Keeper(Protocol):
    """Is told how each firing ended."""

    def done(self, keys: Collection[bytes]) -> None:
        """These firings are in the log."""
        ...

    def again(self, timer: Timer, key: bytes, error: Exception) -> None:
        """It failed."""
        ...

    def ended(self, firings: int = 1) -> None:
        """These many ended, either way: others may begin."""
        ...


class Rounds:
    """See the module. All methods belong to the loop's thread."""

    def __init__(self, entities: Fires, keeper: Keeper) -> None:
        self._entities = entities
        self._keeper = keeper
        self.deciding: dict[str, Timer] = {}
        """Timers whose decision is in a group that is not finished, by the ids of their commands."""
        self._in_log: set[Group] = set()
        """Groups whose append is on its way."""
        self._landing: asyncio.Future[None] | None = None

    def is_last(self, event: StoredEvent) -> bool:
        """Whether an event is the firing of a timer that is decided here and that is not set again."""
        deciding, command_id = self.deciding, event.command_id
        return command_id in deciding and not deciding[command_id].every_ms

    async def fire(self, timers: list[Due]) -> None:
        """Fire these, those that can be in shared appends.

        First those whose entities can decide now; the other entities are loaded together for that. What is
        left is sent as a message. A slow one holds no place but its own while it is decided.
        """
        others = await self._together(timers)
        if others:
            with contextlib.suppress(EventStoreError, EntityError, TimeoutError):  # a firing meets it again
                async with asyncio.timeout(_LOAD_S):
                    await self._entities.load([timer for _, timer in others])
        left, waits = len(timers) + 1, 0
        while others:
            if len(others) < left:
                left, waits = len(others) - len(others) // _PASS_SHARE, 0
            elif self._in_log and waits < _WAITS_MAX:
                waits += 1  # their entities are in an append of another round
                await self._next_landing()
            else:
                break
            others = await self._together(others)
        if others:
            await asyncio.gather(*(self._one(*due) for due in others))

    async def _together(self, timers: list[Due]) -> list[Due]:
        """Fire all whose entities can decide now, without a task for each. Returns the others in order.

        A timer whose entity has one among the others already is left too: they fire in the order given.
        """
        others: list[Due] = []
        left: set[str] = set()
        groups: deque[tuple[Group, _Members]] = deque()
        try:
            group, members = self._new_group(groups)
            for some in batched(timers, _STRETCH):
                for due in some:
                    timer = due[1]
                    command_id = timer.id
                    if timer.entity in left or not group.add(timer, command_id):
                        others.append(due)
                        left.add(timer.entity)
                        continue
                    members[command_id] = due
                    self.deciding[command_id] = timer
                    if group.full:
                        self._submit(group, members)
                        group, members = self._new_group(groups)
                await asyncio.sleep(0)
            self._submit(group, members)
            unwritten: list[Due] = []
            while groups:
                group, members = groups[0]
                unwritten += await self._finished(group, members)
                groups.popleft()
            if unwritten:
                keys = {key for key, _ in (*others, *unwritten)}
                others = [due for due in timers if due[0] in keys]
        finally:
            for group, members in groups:
                group.give_up()
                self._landed(group)
                self._no_longer(members)
        return others

    def _submit(self, group: Group, members: _Members) -> None:
        group.submit()
        if members:
            self._in_log.add(group)

    def _landed(self, group: Group) -> None:
        self._in_log.discard(group)
        if self._landing is not None:
            self._landing.set_result(None)
            self._landing = None

    async def _next_landing(self) -> None:
        """Return when an append of a group has come to its end."""
        if self._landing is None:
            self._landing = asyncio.get_running_loop().create_future()
        await asyncio.wait([self._landing])

    def _new_group(self, groups: deque[tuple[Group, _Members]]) -> tuple[Group, _Members]:
        groups.append((self._entities.together(), {}))
        return groups[-1]

    async def _finished(self, group: Group, members: _Members) -> Iterable[Due]:
        """Wait for the log. Returns those that were not written."""
        try:
            written = await group.finish()
        except EventStoreError as error:
            for key, timer in members.values():
                self._keeper.again(timer, key, error)
            self._keeper.ended(len(members))
            return ()
        finally:
            self._landed(group)
            self._no_longer(members)
        if not written:
            return members.values()
        self._keeper.done([key for key, _ in members.values()])
        self._keeper.ended(len(members))
        return ()

    def _no_longer(self, members: _Members) -> None:
        for command_id in members:
            self.deciding.pop(command_id, None)

    async def _one(self, key: bytes, timer: Timer) -> None:
        try:
            await self._entities.fire(timer)
        except Exception as error:  # noqa: BLE001  whatever an application's handler raises
            self._keeper.again(timer, key, error)
        else:
            self._keeper.done((key,))
        finally:
            self._keeper.ended()
