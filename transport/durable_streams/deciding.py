"""What a request changes in a stream. Pure: a state and a request in, a change or a refusal out."""

from collections.abc import Sequence
from http import HTTPStatus

import msgspec

from huahuo.transport.durable_streams.asking import (
    Addition,
    Creation,
    Producer,
    Wrong,
    offset_text,
    same_type,
)
from huahuo.transport.http.messages import Headers
from huahuo.transport.words import http_zh

type Header = tuple[str, str]


class State(msgspec.Struct, frozen=True):
    """A stream. `start`: the seq of the event that created it; `tail`: of its last data, else `start`.

    `seen_ms`: when it was last read or written, from which its TTL counts. `order`: the last `Stream-Seq`.
    """

    start: int
    tail: int
    content_type: str
    seen_ms: int
    ttl_s: int | None = None
    expires_ms: int | None = None
    closed: bool = False
    order: str | None = None

    def expired(self, now_ms: int) -> bool:
        """Whether it is gone."""
        due = self.due_ms
        return due is not None and now_ms >= due

    @property
    def due_ms(self) -> int | None:
        """When it is gone unless it is used before."""
        return self.expires_ms if self.ttl_s is None else self.seen_ms + self.ttl_s * 1000

    @property
    def headers(self) -> Headers:
        """Its end, as most answers have it."""
        closed = (("Stream-Closed", "true"),) if self.closed else ()
        return (("Stream-Next-Offset", offset_text(self.tail)), *closed)


class Accepted(msgspec.Struct, frozen=True):
    """A change to commit with its answer. `producer`: its new place."""

    status: HTTPStatus
    closes: bool = False
    producer: Producer | None = None


class Repeated(msgspec.Struct, frozen=True):
    """It was done before: nothing to commit."""

    status: HTTPStatus
    headers: Headers


def created_before(state: State, asked: Creation) -> Repeated:
    """The answer to a PUT for a stream that exists. Raises Wrong: it is another one."""
    same = (
        same_type(state.content_type, asked.content_type)
        and (state.ttl_s, state.expires_ms) == (asked.ttl_s, asked.expires_ms)
        and state.closed == asked.closed
    )
    if not same:
        raise Wrong(HTTPStatus.CONFLICT, http_zh.OTHER_CONFIGURATION)
    return Repeated(HTTPStatus.OK, (("Content-Type", state.content_type), *state.headers))


def judge(state: State, last: Producer | None, asked: Addition, size: int) -> Accepted | Repeated:
    """What becomes of a POST with a body of `size` bytes. `last`: the last place of its producer."""
    if not size and not asked.closes:
        raise Wrong(HTTPStatus.BAD_REQUEST, http_zh.EMPTY_BODY)
    if size:
        if asked.content_type is None:
            raise Wrong(HTTPStatus.BAD_REQUEST, http_zh.CONTENT_TYPE_MISSING)
        if not same_type(asked.content_type, state.content_type):
            raise Wrong(HTTPStatus.CONFLICT, http_zh.OTHER_TYPE.format(state.content_type), state.headers)
    if asked.producer is not None:
        known = _known(state, last, asked.producer)
        if known is not None:
            return known
    if state.closed:
        if not size and asked.producer is None:
            return Repeated(HTTPStatus.NO_CONTENT, state.headers)
        raise Wrong(HTTPStatus.CONFLICT, http_zh.CLOSED_STREAM, state.headers)
    if asked.order is not None and state.order is not None and asked.order <= state.order:
        raise Wrong(HTTPStatus.CONFLICT, http_zh.ORDER_NEEDED)
    says_more = asked.producer is not None and size
    status = HTTPStatus.OK if says_more else HTTPStatus.NO_CONTENT
    return Accepted(status, asked.closes, asked.producer)


def _known(state: State, last: Producer | None, asked: Producer) -> Repeated | None:
    """The answer if this was accepted before. Raises Wrong: it is fenced off, or something is missing."""
    if last is not None and asked.epoch < last.epoch:
        epoch = (("Producer-Epoch", str(last.epoch)),)
        raise Wrong(HTTPStatus.FORBIDDEN, http_zh.NEWER_EPOCH, epoch)
    if last is not None and asked.epoch > last.epoch and asked.seq != 0:
        raise Wrong(HTTPStatus.BAD_REQUEST, http_zh.EPOCH_BEGINS)
    expected = 0 if last is None or asked.epoch > last.epoch else last.seq + 1
    if asked.seq > expected:
        gap = (("Producer-Expected-Seq", str(expected)), ("Producer-Received-Seq", str(asked.seq)))
        raise Wrong(HTTPStatus.CONFLICT, http_zh.SEQ_EXPECTED.format(expected), gap)
    if last is None or asked.seq == expected:
        return None
    return Repeated(HTTPStatus.NO_CONTENT, (*state.headers, *place_headers(last)))


def place_headers(producer: Producer) -> Sequence[Header]:
    """The place of a producer, as answers have it."""
    return (("Producer-Epoch", str(producer.epoch)), ("Producer-Seq", str(producer.seq)))
