"""Values that the Python client hands to an application: events, states, statuses, errors. Pure data.

```
ClientError
├── ClientStopped        the client will not reconnect; `code` and `reason` say why
├── CommandError         the server refused a command; `code` is one of PROTOCOL 6
├── QueueFull            too many commands wait for an answer
├── StreamDenied         the stream may not be read (any more)
├── StreamInUse          the stream has a consumer already
├── NotSubscribed        the client does not follow the stream to wait for
├── LogReplaced          the log was replaced: the awaited event may never come
└── ProtocolViolation    the server broke PROTOCOL; the client closes the connection
```

A `Happening` is a message from the session to its shell, besides the statuses for listeners.
"""

from collections.abc import Iterator
from typing import Any, Literal, Self

import msgspec

from huahuo.transport.protocol.codes import in_english

type After = int | Literal["head", "start", "snapshot"]
"""Where to begin: behind a seq, at the head, at the oldest event, or with a snapshot of now."""


class ClientError(Exception):
    """Base of all errors that the client raises on purpose."""


class ClientStopped(ClientError):  # noqa: N818  says what happened
    """The client stopped for good.

    `code` is the close code of PROTOCOL 10, or 0 if the application stopped the client.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(
            f"the client stopped: {reason} ({code})" if code else f"the client stopped: {reason}"
        )
        self.code = code
        self.reason = reason


class CommandError(ClientError):
    """The server answered with `error`. `retry_s`: seconds after which the server suggests a retry.

    Its text is English. `message` is the server's own, for its users. `details` may be a dict.
    """

    def __init__(
        self, code: str, message: str, details: str | dict[str, Any] = "", retry_s: float | None = None
    ) -> None:
        super().__init__(in_english(code, message, details))
        self.code = code
        self.message = message
        self.details: Any = details
        self.retry_s = retry_s

    @classmethod
    def of(cls, message: dict[str, Any]) -> Self:
        """From an `error` message of the server."""
        code, text, details = (message.get(key, "") for key in ("code", "message", "details"))
        told_s = message.get("retry_s")
        return cls(str(code), str(text), details, float(told_s) if isinstance(told_s, int | float) else None)


class QueueFull(ClientError):  # noqa: N818  says what happened
    """`limit` commands already wait for an answer."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} commands wait for an answer already")
        self.limit = limit


class _StreamError(ClientError):
    text = ""

    def __init__(self, stream: str) -> None:
        super().__init__(f"{stream}: {self.text}")
        self.stream = stream


class StreamDenied(_StreamError):  # noqa: N818  says what happened
    """The user may not, or no longer, read this stream."""

    text = "may not be read"


class StreamInUse(_StreamError):  # noqa: N818  says what happened
    """A stream has one consumer at a time: close the other one first."""

    text = "has a consumer already"


class NotSubscribed(_StreamError):  # noqa: N818  says what happened
    """The client does not follow this stream."""

    text = "is not followed on this connection"


class LogReplaced(_StreamError):  # noqa: N818  says what happened
    """The server's log was replaced, so earlier seqs have no meaning in it."""

    text = "continues in another log"


class ProtocolViolation(ClientError):  # noqa: N818  says what happened
    """The server sent a message that PROTOCOL does not allow."""


type Check = tuple[int, str]
"""A seq with its check from the server: a digest of the log up to that event."""


class Cursor(msgspec.Struct, frozen=True, omit_defaults=True):
    """A place in a stream: the last processed seq, in the log with this id.

    `check` is the last one received at or before this seq. The server compares it when the client comes back,
    and answers `reset` if the events up to it are not the ones that the client processed.
    """

    log: str
    seq: int
    check: Check | None = None


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event: `data` is the JSON object as sent, `type` and `timestamp` included.

    Two types are not from the log. `snapshot`: `data["state"]` is the state after event `seq` and replaces
    all that the application knew; `data["outcome"]` is the reason (`gap`, `reset`, `snapshot`). `skipped`:
    the events from `data["first"]` to `seq` no longer exist.
    """

    stream: str
    seq: int
    type: str
    data: dict[str, Any]
    log: str = ""
    """The id of the log of `seq`. `Cursor(event.log, event.seq)` continues after this event."""


class Batch(msgspec.Struct, frozen=True):
    """A run of events without a gap: `bodies` are the events `first`, `first` + 1, and so on."""

    stream: str
    first: int
    bodies: list[dict[str, Any]]
    log: str
    era: int

    @property
    def last(self) -> int:
        """The seq of the last event."""
        return self.first + len(self.bodies) - 1

    def __len__(self) -> int:
        return len(self.bodies)

    def __iter__(self) -> Iterator[Event]:
        for seq, body in enumerate(self.bodies, self.first):
            yield Event(self.stream, seq, body["type"], body, self.log)


class Snapshot(msgspec.Struct, frozen=True):
    """The state after event `last`; it replaces all earlier state. `outcome`: why it was sent."""

    stream: str
    last: int
    state: dict[str, Any]
    outcome: str
    log: str
    era: int

    def __iter__(self) -> Iterator[Event]:
        data = {"type": "snapshot", "state": self.state, "outcome": self.outcome}
        yield Event(self.stream, self.last, "snapshot", data, self.log)


class Skipped(msgspec.Struct, frozen=True):
    """The events from `first` to `last` were compacted away."""

    stream: str
    first: int
    last: int
    reason: str
    log: str
    era: int

    def __iter__(self) -> Iterator[Event]:
        data = {"type": "skipped", "first": self.first, "reason": self.reason}
        yield Event(self.stream, self.last, "skipped", data, self.log)


type Item = Batch | Snapshot | Skipped
type State = Literal["connecting", "online", "offline", "stopped"]


class Connecting(msgspec.Struct, frozen=True):
    """The client begins an attempt to connect."""


class Online(msgspec.Struct, frozen=True):
    """The connection is authenticated. `user` is the user of the token, as the server sees it."""

    log: str
    session: str
    user: dict[str, Any]


class Offline(msgspec.Struct, frozen=True):
    """The connection is gone (`code` None: without a close). The next attempt is in `retry_s` seconds."""

    code: int | None
    reason: str
    retry_s: float


class Stopped(msgspec.Struct, frozen=True):
    """The client stopped and will not reconnect."""

    error: ClientStopped


class Outcome(msgspec.Struct, frozen=True):
    """The place that the server gave this connection in a stream (PROTOCOL 3.1)."""

    stream: str
    outcome: str
    after: int
    head: int


class Live(msgspec.Struct, frozen=True):
    """The connection has caught up with the stream's head."""

    stream: str
    seq: int


class Lag(msgspec.Struct, frozen=True):
    """The server waits for acks. The connection is `behind` events behind the head."""

    stream: str
    behind: int


class TokenExpiring(msgspec.Struct, frozen=True):
    """The token has `in_s` seconds left."""

    in_s: float


class Goaway(msgspec.Struct, frozen=True):
    """The server announces that it will close with `code`."""

    code: int
    reason: str


class Problem(msgspec.Struct, frozen=True):
    """A fault that did not stop the client, to be logged."""

    code: str
    message: str


type Status = (
    Connecting | Online | Offline | Stopped | Outcome | Live | Lag | TokenExpiring | Goaway | Problem
)
"""The statuses that a listener gets."""


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
