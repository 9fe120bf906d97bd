"""A command that an entity decides at once, without a message: for one who sends many, as timers do.

A message costs several steps of the loop and a task, and most commands of timers meet an entity that is in
memory, idle and up to date.
"""

from collections.abc import Sequence

from huahuo.actors.actor.inbox import Inbox
from huahuo.actors.entities.decider import Origin
from huahuo.actors.entities.entity import Begun, Entity
from huahuo.actors.runtime.door import Door
from huahuo.eventstore.errors import Closed, CommandMismatch, Conflict, QueueFull, TooLarge
from huahuo.eventstore.model import Appended, StoredEvent


class AtOnce:
    """A decision whose append is with the log. The entity handles no message until `finish` or `give_up`."""

    __slots__ = ("_decision", "_door", "_entity", "_inbox", "_written")

    def __init__(
        self,
        door: Door,
        inbox: Inbox,
        entity: Entity,
        begun: Begun,
    ) -> None:
        self._door = door
        self._inbox = inbox
        self._entity = entity
        self._decision, self._written = begun

    async def finish(self) -> bool:
        """Wait for the log, and let the entity go on. False: nothing was written, so decide it as a message.

        Raises:
            Unavailable: the outcome is unknown.
        """
        outcome: Appended | None = None
        known = True
        try:
            written = await self._written
            if isinstance(written, Appended):
                outcome = written
        except (Conflict, CommandMismatch, TooLarge, QueueFull, Closed):
            pass
        except BaseException:
            known = False
            raise
        finally:
            if outcome is not None or not known:
                self._entity.finish(self._decision, outcome)
            self._door.let_go(self._inbox)
        return outcome is not None

    def give_up(self) -> None:
        """Wait no longer: the outcome stays unknown."""
        self._entity.finish(self._decision, None)
        self._door.let_go(self._inbox)


def load(door: Door, inbox: Inbox, events: Sequence[StoredEvent]) -> None:
    """Give an entity that was just started its whole stream, which was read for it."""
    entity = door.hold(inbox)
    if entity is None:
        return
    if isinstance(entity, Entity):
        entity.load_from(events)
    door.let_go(inbox)


def begin(door: Door, inbox: Inbox, command: object, origin: Origin) -> AtOnce | None:
    """Decide now, if the entity is in memory, idle and up to date. None: nothing was done.

    `ask` then does it, and says what is wrong.
    """
    entity = door.hold(inbox)
    if entity is None:
        return None
    if isinstance(entity, Entity) and (begun := entity.begin(command, origin)) is not None:
        return AtOnce(door, inbox, entity, begun)
    door.let_go(inbox)
    return None
