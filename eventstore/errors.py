"""What the event store raises.

EventStoreError
 +- Conflict         an expected head was not the head: nothing of the append was written
 |   +- KeyConflict    a secret was sealed under a key that its owner does not have (any more)
 +- CommandMismatch  the command id was used before with another content
 +- Unavailable      the append's outcome is unknown (full disk, failed write): repeat it with the same id
 |   +- NoRoom        a directory could not be opened because its disk is full
 +- NumbersSpent     the numbers that this node reserved are used up: reserve more and decide again
 +- QueueFull        the queue is full: nothing was done, try again later
 +- Closed           the log has been closed
 +- InUse            another process writes this directory
 +- Damaged          the stored history contradicts itself, at a position
 |   +- Lost         its end is missing: acknowledged events are gone
 |   +- Corrupt      a value does not fit its checksum or hash, at a named place; it was not returned
 +- Detached         the files being written are no longer those in the directory
 +- TooLarge         an append or an event is over a limit: nothing was written
 +- WrongKey         the log was made with another master key
 +- SealBroken       a sealed secret is not what was stored there
"""


class EventStoreError(Exception):
    """Base of everything the event store raises."""


class Conflict(EventStoreError):  # noqa: N818  the field's own term
    """A stream's head was not where the append expected it; nothing was written."""

    def __init__(self, stream: str, expected: int, actual: int) -> None:
        super().__init__(f"{stream} stands at {actual}, not at {expected}")
        self.stream = stream
        self.expected = expected
        self.actual = actual


class KeyConflict(Conflict):
    """The data key of an owner was made, replaced or destroyed meanwhile: decide again."""

    def __init__(self, owner: str) -> None:
        super().__init__(f"the data key of {owner}", 0, 0)
        self.args = (f"the data key of {owner} is another one by now",)
        self.owner = owner


class CommandMismatch(EventStoreError):  # noqa: N818
    """A command id was used again with other content."""


class Unavailable(EventStoreError):  # noqa: N818
    """The log does not know whether the append was written; the caller must assume neither."""


class NoRoom(Unavailable):
    """The directory could not be opened because its disk is full. What is in it stays as it is."""

    def __init__(self, directory: object) -> None:
        super().__init__(
            f"the disk of {directory} is full: delete other files there, or enlarge it, and try again;"
            " nothing that was acknowledged is lost"
        )


class NumbersSpent(EventStoreError):  # noqa: N818
    """The numbers that this node of several reserved of a counter are used up. Nothing was done."""

    def __init__(self, counter: str, count: int) -> None:
        super().__init__(f"no {count} numbers of the counter {counter} are reserved")
        self.counter = counter
        self.count = count


class QueueFull(EventStoreError):  # noqa: N818
    """The queue of a user, or of all users together, is full. Nothing was done; try again later."""


class Closed(EventStoreError):  # noqa: N818
    """The log has been closed."""


class InUse(EventStoreError):  # noqa: N818
    """Another process has this directory open for writing."""


class TooLarge(EventStoreError):  # noqa: N818
    """An append or one of its events is over a limit; nothing was written."""


class WrongKey(EventStoreError):  # noqa: N818
    """The log was made with another master key: its secrets could not be read."""


class SealBroken(EventStoreError):  # noqa: N818
    """A sealed box does not open: another key, or not the bytes that were stored there."""


class Damaged(EventStoreError):  # noqa: N818
    """The stored history is not what was written."""

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(f"the log is damaged at position {position}: {reason}")
        self.position = position
        self.reason = reason


class Lost(Damaged):
    """The log ends before what it acknowledged: it is not opened until the loss is accepted or repaired."""


class Corrupt(Damaged):
    """Something that was read is not what was written. `place` says what, for example `stream user/42`."""

    def __init__(self, place: str, reason: str, *, position: int = 0) -> None:
        super().__init__(position, reason)
        at = f" at position {position}" if position else ""
        self.args = (f"{place} is damaged{at}: {reason}",)
        self.place = place
        self.wrote_nothing = False
        """Whether a commit that met it is known to have written nothing, and nothing must be looked up."""


class Detached(EventStoreError):  # noqa: N818
    """A file of the log was deleted, moved or replaced under its writer: nothing is written any more."""


MISREAD = (TypeError, ValueError, OverflowError, MemoryError)
"""What `sqlite3`, or code that uses its values, raises where a column's header is damaged."""
