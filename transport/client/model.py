"""What the Python client hands to an application: events, states, statuses and errors. Pure data.

```
ClientError
├── ClientStopped        the client will not come back by itself; `code` and `reason` say why
├── CommandError         the server refused a command; `code` is one of PROTOCOL 6
├── QueueFull            too many commands wait for an answer
├── StreamDenied         the stream may not be read (any more)
├── StreamInUse          the stream has a consumer already
├── NotSubscribed        nobody follows the stream that was to be waited for
├── LogReplaced          the log was replaced: the awaited event may never come
└── ProtocolViolation    the server broke PROTOCOL; the connection is given up
```
"""

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

type After = int | Literal["head", "start", "snapshot"]
"""Where to begin: behind a seq, at the head, at the oldest event, or with the state of now."""


class ClientError(Exception):
    """Base of everything the client raises on purpose."""


class ClientStopped(ClientError):  # noqa: N818  says what happened
    """The client stopped for good.

    `code` is the close code of PROTOCOL 10, or 0 where the application stopped it.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(
            f"the client stopped: {reason} ({code})" if code else f"the client stopped: {reason}"
        )
        self.code = code
        self.reason = reason


class CommandError(ClientError):
    """The server answered with `error`. `retry_s`: when it says that trying again is worth it."""

    def __init__(self, code: str, message: str, details: str = "", retry_s: float | None = None) -> None:
        super().__init__(f"{code}: {message}" + (f" ({details})" if details else ""))
        self.code = code
        self.message = message
        self.details = details
        self.retry_s = retry_s


class QueueFull(ClientError):  # noqa: N818  says what happened
    """`limit` commands wait for an answer already."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} commands wait for an answer already")
        self.limit = limit


class _StreamError(ClientError):
    text = ""

    def __init__(self, stream: str) -> None:
        super().__init__(f"{stream}: {self.text}")
        self.stream = stream


class StreamDenied(_StreamError):  # noqa: N818  says what happened
    """The user may not read this stream, or not any more."""

    text = "may not be read"


class StreamInUse(_StreamError):  # noqa: N818  says what happened
    """One consumer a stream; close the other first."""

    text = "has a consumer already"


class NotSubscribed(_StreamError):  # noqa: N818  says what happened
    """Nothing of this stream arrives here."""

    text = "is not followed on this connection"


class LogReplaced(_StreamError):  # noqa: N818  says what happened
    """The server's log was replaced; numbers from before mean nothing in it."""

    text = "continues in another log"


class ProtocolViolation(ClientError):  # noqa: N818  says what happened
    """The server sent what PROTOCOL does not allow."""


type Check = tuple[int, str]
"""A seq with the check that the server gave for it: a digest of the log up to that event."""


class Cursor(msgspec.Struct, frozen=True, omit_defaults=True):
    """A place in a stream: the last seq that was processed, in the log with this id.

    `check` is the last one heard on the way there. The server compares it when the client comes back, and
    answers `reset` where the events before this place are not the ones that were processed.
    """

    log: str
    seq: int
    check: Check | None = None


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event: `data` is the JSON object as sent, `type` and `timestamp` included.

    Two types are not from the log. `snapshot`: `data["state"]` replaces whatever the application
    knew, it is the state after event `seq`; `data["outcome"]` says why (`gap`, `reset`,
    `snapshot`). `skipped`: the events up to `seq`, from `data["first"]`, no longer exist.
    """

    stream: str
    seq: int
    type: str
    data: dict[str, Any]
    log: str = ""
    """The id of the log that `seq` belongs to: `Cursor(event.log, event.seq)` goes on behind this event."""


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
    """The state after event `last`; replaces what was known. `outcome`: why it was sent."""

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
    """An attempt to connect begins."""


class Online(msgspec.Struct, frozen=True):
    """Authenticated. `user` is the server's view of the token."""

    log: str
    session: str
    user: dict[str, Any]


class Offline(msgspec.Struct, frozen=True):
    """The connection is gone (`code` None: lost without a word); the next attempt is in `retry_s`."""

    code: int | None
    reason: str
    retry_s: float


class Stopped(msgspec.Struct, frozen=True):
    """The client will not come back by itself."""

    error: ClientStopped


class Outcome(msgspec.Struct, frozen=True):
    """Where the server put this connection in a stream (PROTOCOL 3.1)."""

    stream: str
    outcome: str
    after: int
    head: int


class Live(msgspec.Struct, frozen=True):
    """The connection has caught up with the stream's head."""

    stream: str
    seq: int


class Lag(msgspec.Struct, frozen=True):
    """The server waits for acks and is `behind` events behind the head."""

    stream: str
    behind: int


class TokenExpiring(msgspec.Struct, frozen=True):
    """The token has `in_s` seconds left."""

    in_s: float


class Goaway(msgspec.Struct, frozen=True):
    """The server announces that it is about to close with `code`."""

    code: int
    reason: str


class Problem(msgspec.Struct, frozen=True):
    """Something went wrong that the client goes on from: for logs."""

    code: str
    message: str


type Status = (
    Connecting | Online | Offline | Stopped | Outcome | Live | Lag | TokenExpiring | Goaway | Problem
)
"""What a status listener is told."""
