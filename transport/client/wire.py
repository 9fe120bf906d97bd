"""The server's messages as the Python client reads them. Pure; called only by `session`.

Fields that the client does not use are left out. Unknown fields are ignored: a newer server may add some.
"""

from typing import Any

import msgspec


class StreamPlace(msgspec.Struct, frozen=True):
    """One stream of an `authentication_result`."""

    outcome: str
    after: int = 0
    first: int = 1
    head: int = 0


class DictionaryPlace(msgspec.Struct, frozen=True):
    """The dictionary of an `authentication_result`."""

    id: int
    url: str


class _Message(msgspec.Struct, frozen=True, tag_field="type"):
    pass


class AuthResult(_Message, frozen=True, tag="authentication_result"):
    """PROTOCOL 3.1, success and failure."""

    success: bool
    message: str = ""
    code: str = ""
    session: str = ""
    log: str = ""
    user: dict[str, Any] = {}
    heartbeat_s: float = 30.0
    window: int = 512
    streams: dict[str, StreamPlace] = {}
    dictionary: DictionaryPlace | None = None


class Subscribed(_Message, frozen=True, tag="subscribed"):
    """PROTOCOL 3.2. Without an id: it follows a `pending` of an `authentication_result`."""

    stream: str
    outcome: str
    id: str = ""
    log: str = ""
    after: int = 0
    first: int = 1
    head: int = 0


class Unsubscribed(_Message, frozen=True, tag="unsubscribed"):
    """The answer to `unsubscribe`, or (with `reason`) the end of a subscription; `retry_s`: only for now."""

    stream: str
    id: str = ""
    reason: str = ""
    retry_s: float | None = None


class EventsFrame(_Message, frozen=True, tag="events"):
    """A contiguous run."""

    stream: str
    seq: int
    events: list[dict[str, Any]]


class SnapshotFrame(_Message, frozen=True, tag="snapshot"):
    """The state after event `seq`, or a part of it."""

    stream: str
    seq: int
    state: dict[str, Any]
    part: int = 1
    more: bool = False
    check: str = ""


class SkippedFrame(_Message, frozen=True, tag="skipped"):
    """Events `seq` to `to` no longer exist."""

    stream: str
    seq: int
    to: int
    reason: str = ""


class LiveFrame(_Message, frozen=True, tag="live"):
    """Caught up."""

    stream: str
    seq: int
    check: str = ""


class LagFrame(_Message, frozen=True, tag="lag"):
    """The server waits for acks."""

    stream: str
    behind: int


class TokenExpiringFrame(_Message, frozen=True, tag="token_expiring"):
    """The token expires soon."""

    in_s: float


class GoawayFrame(_Message, frozen=True, tag="goaway"):
    """The server will close the connection."""

    code: int
    reason: str = ""
    retry_s: tuple[float, float] | None = None


class HeartbeatFrame(_Message, frozen=True, tag="heartbeat"):
    """The server asks for an answer, to see that the client is alive."""


type Known = (
    AuthResult
    | Subscribed
    | Unsubscribed
    | EventsFrame
    | SnapshotFrame
    | SkippedFrame
    | LiveFrame
    | LagFrame
    | TokenExpiringFrame
    | GoawayFrame
    | HeartbeatFrame
)

_known: msgspec.json.Decoder[Known] = msgspec.json.Decoder(Known)
_object = msgspec.json.Decoder(dict[str, Any])


def parse(raw: str | bytes) -> Known | dict[str, Any]:
    """A known message, or else the JSON object (replies, and messages that this version does not know).

    Raises:
        msgspec.DecodeError: not a JSON object, or a known type with a field of the wrong kind.
    """
    try:
        return _known.decode(raw)
    except msgspec.ValidationError:
        message = _object.decode(raw)
        if message.get("type") in _TAGS:
            raise
        return message


_TAGS = frozenset(
    {
        "authentication_result",
        "subscribed",
        "unsubscribed",
        "events",
        "snapshot",
        "skipped",
        "live",
        "lag",
        "token_expiring",
        "goaway",
        "heartbeat",
    }
)


def encode(message: dict[str, Any]) -> str:
    """One message to the server.

    Raises:
        TypeError: a field holds a value that JSON cannot.
    """
    return msgspec.json.encode(message).decode()
