"""A `publish` of several events, in the form in which clients of compact JSON write it. Pure.

It is decoded and proven at once, where `incoming.parse` looks at each value of each event one by one: for the
depth, for long numbers, and again to convert it.
"""

from typing import Annotated, Final, Literal

import msgspec

from huahuo.eventstore.limits import BROWSER_INT_MAX

EVENTS_MAX: Final = 1_000
"""Events of one `publish`."""
DEPTH: Final = 4
"""How deep such a message nests: itself, the list, an event, its fields."""

_ID_CHARS_MAX: Final = 64
_BEGIN: Final = b'{"action":"publish","id":"'
_LIST: Final = b',"events":[{'
LIST: Final = (_LIST, len(_BEGIN), len(_BEGIN) + 6 * _ID_CHARS_MAX + len(_LIST) + 1)
"""What such a message holds, and where to look for it: each character of an id may be escaped."""

type _Whole = Annotated[int, msgspec.Meta(ge=-BROWSER_INT_MAX, le=BROWSER_INT_MAX)]


class ListedEvent(msgspec.Struct, frozen=True, gc=False):
    """An event of the list. Its fields hold nothing that nests, and no number that a browser rounds."""

    stream: str
    type: str
    fields: dict[str, str | _Whole | float | bool | None]


class _Publish(msgspec.Struct, frozen=True):
    action: Literal["publish"]
    id: Annotated[str, msgspec.Meta(min_length=1, max_length=_ID_CHARS_MAX)]
    events: Annotated[list[ListedEvent], msgspec.Meta(min_length=1, max_length=EVENTS_MAX)]


_decode: Final = msgspec.json.Decoder(_Publish).decode
_encode: Final = msgspec.json.Encoder().encode


def listed(data: bytes) -> tuple[str, list[ListedEvent]] | None:
    """The id and the events, if `data` is such a message. None: it must be looked at closely.

    Without `LIST` it is none.

    What gives the same bytes again when it is encoded has no member twice, no unknown one, no number out of
    range and no lone surrogate.
    """
    if not data.startswith(_BEGIN):
        return None
    try:
        found = _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return (found.id, found.events) if _encode(found) == data else None
