"""Messages from the Python client's session to its shell, besides the statuses for listeners. Pure."""

from typing import Any

import msgspec

from huahuo.transport.client.model import CommandError, Cursor, Status


class Replied(msgspec.Struct, frozen=True):
    """The final answer to a command: its reply or its error."""

    id: str
    reply: dict[str, Any] | CommandError


class Readable(msgspec.Struct, frozen=True):
    """`take` has an item for this stream's consumer."""

    stream: str


class StreamEnded(msgspec.Struct, frozen=True):
    """The stream's consumer gets no more items."""

    stream: str
    error: Exception


class Reached(msgspec.Struct, frozen=True):
    """An awaited place was reached (`error` None), or never will be."""

    token: int
    error: Exception | None = None


class Processed(msgspec.Struct, frozen=True):
    """The cursors of the consumers, for the cursor store."""

    cursors: dict[str, Cursor]


type Happening = Replied | Readable | StreamEnded | Reached | Processed | Status
