"""What the Python client's session tells its shell, beside the statuses meant for listeners. Pure."""

from typing import Any

import msgspec

from huahuo.transport.client.model import CommandError, Cursor, Status


class Replied(msgspec.Struct, frozen=True):
    """The final answer to a command: the reply, or the error it was refused with."""

    id: str
    reply: dict[str, Any] | CommandError


class Readable(msgspec.Struct, frozen=True):
    """`take` has something for this stream's consumer."""

    stream: str


class StreamEnded(msgspec.Struct, frozen=True):
    """The stream's consumer gets nothing any more."""

    stream: str
    error: Exception


class Reached(msgspec.Struct, frozen=True):
    """An awaited place is reached (error None), or never will be."""

    token: int
    error: Exception | None = None


class Processed(msgspec.Struct, frozen=True):
    """What consumers have processed: for the cursor store."""

    cursors: dict[str, Cursor]


type Happening = Replied | Readable | StreamEnded | Reached | Processed | Status
