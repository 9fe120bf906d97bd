"""`At`: where an event is."""

import msgspec


class At(msgspec.Struct, frozen=True):
    """The place of the last event that was written, and the log's position then (0: not told)."""

    stream: str
    seq: int
    position: int = 0
