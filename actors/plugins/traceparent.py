"""The place of a span as a text (W3C Trace Context, `traceparent`): also the id of a command. Pure."""

import re
from typing import Final

import msgspec

_FORM: Final = re.compile(r"00-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})")
_SAMPLED: Final = 1
LENGTH: Final = 55
"""Characters of one. A command's id may have 64."""


class Place(msgspec.Struct, frozen=True):
    """A span of a trace. `sampled`: the program that began the trace wants it recorded."""

    trace_id: int
    span_id: int
    sampled: bool

    def __str__(self) -> str:
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{int(self.sampled):02x}"


def carried(text: str) -> str:
    """The text itself if it is the place of a span that is recorded, else ""."""
    if len(text) != LENGTH or (place := place_in(text)) is None or not place.sampled:
        return ""
    return text


def place_in(text: str) -> Place | None:
    """The place that a text names, None if it is any other id."""
    if len(text) != LENGTH or (found := _FORM.fullmatch(text)) is None:
        return None
    trace_id, span_id = int(found["trace"], 16), int(found["span"], 16)
    if not trace_id or not span_id:
        return None
    return Place(trace_id, span_id, bool(int(found["flags"], 16) & _SAMPLED))
