"""Events that an application reads as they come, and what its clients have processed."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Final

import msgspec

from huahuo.actors.domain.api import EntityApi
from huahuo.actors.domain.decision import Refused
from huahuo.actors.domain.names import RESERVED_KINDS, is_own_stream, key_of
from huahuo.actors.domain.numbers import is_whole
from huahuo.app.wiring import App
from huahuo.eventstore.deadline import Deadline
from huahuo.eventstore.errors import Corrupt
from huahuo.eventstore.model import StoredEvent

_LONE_STREAMS: Final = frozenset({"system", "log", "auth", "audit"})
_PAGE_EVENTS: Final = 256
_PAGE_BYTES: Final = 256 << 10


def _may_exist(app: App, stream: str) -> bool:
    """Whether a stream can have this name: a lone one, or `<kind>/<key>` with a key of the kind."""
    kind, slash, rest = stream.partition("/")
    if not slash:
        return stream in _LONE_STREAMS
    entities: EntityApi = app.api("entities")
    entity = entities.catalog.by_kind.get(kind)
    if entity is None and kind in RESERVED_KINDS - {"user", "group"}:
        return bool(rest)
    if entity is None:
        return is_own_stream(stream, ())
    return key_of(rest, entity.key) is not None


async def follow(app: App, stream: str, after: int = 0) -> AsyncGenerator[dict[str, Any]]:
    """Every event of `stream` after `after`, as clients get it, with `stream` and `seq`.

    It ends when the service stops.

    Raises:
        Refused: no stream can have this name, or `after` is no seq, so the caller would wait for ever.
    """
    if not _may_exist(app, stream):
        raise Refused("invalid_field", f"stream: no stream can have the name {stream!r}")
    if not is_whole(after, 0):
        raise Refused("invalid_field", f"after: {after!r} is no seq: write 0 for all events of the stream")
    feed, changed, stopped = app.feed, asyncio.Event(), asyncio.Event()

    def committed(by_stream: Mapping[str, Sequence[StoredEvent]] | None) -> None:
        if by_stream is None or stream in by_stream:
            changed.set()

    def stops() -> None:
        stopped.set()
        changed.set()

    untap, forget = feed.tap(committed), app.on_stop(stops)
    try:
        while True:
            changed.clear()
            while after < feed.head(stream).seq:
                run = feed.peek(stream, after, events_max=_PAGE_EVENTS, bytes_max=_PAGE_BYTES)
                if run is None:
                    run = await feed.fetch(stream, after, events_max=_PAGE_EVENTS, bytes_max=_PAGE_BYTES)
                for event in run.events:
                    yield {**msgspec.json.decode(event.body), "stream": event.stream, "seq": event.seq}
                after = run.last
            if stopped.is_set():
                return
            await changed.wait()
    finally:
        untap()
        forget()


async def next_event(app: App, stream: str, after: int, timeout_s: float) -> dict[str, Any] | None:
    """The first event of `stream` after `after`, None if there is none within `timeout_s`."""
    with contextlib.suppress(TimeoutError):
        async with Deadline(app.clock, timeout_s), contextlib.aclosing(follow(app, stream, after)) as events:
            return await anext(events, None)
    return None


async def seen(app: App, stream: str, seq: int, *, client: str, timeout_s: float = 30.0) -> bool:
    """Whether the client installation has processed `stream` up to `seq`, within `timeout_s`.

    Also False if the service stops first. Every client gets `user/<id>` and `system`. While its application
    does not read them, what it received there counts as processed.

    Raises:
        Refused: what is known of that client is damaged (`corrupt`).
    """
    acked = app.hub.acked(client, stream, seq)
    if acked.done():  # at a deadline of 0 s the wait below would end before it saw that
        return True
    forget = app.on_stop(acked.cancel)
    try:
        # Outside of the deadline: at 0 s it is the answer.
        acks = await app.log.acks(client=client, stream=stream)
        if any(ack.seq >= seq for ack in acks):
            return True
        async with Deadline(app.clock, timeout_s):
            await asyncio.wait({acked})
            return not acked.cancelled()
    except TimeoutError:
        return acked.done() and not acked.cancelled()
    except Corrupt as error:
        raise Refused("corrupt", str(error)) from error
    finally:
        forget()
        acked.cancel()
