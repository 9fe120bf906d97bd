"""Frames are built once, shared, and whole."""

import msgspec
import pytest
from websockets.frames import BINARY, TEXT, Frame

from huahuo.transport.protocol.frames import (
    ENTRY_BYTES,
    FrameCache,
    Framed,
    ServerSent,
    binary_frame,
    spliced,
    text_frame,
)
from tests.support.drivers.session import ModelLog, payload_of, payloads


def cache(bytes_max: int = 1 << 20, frame_bytes_max: int = 256 << 10) -> FrameCache:
    return FrameCache(bytes_max=bytes_max, frame_bytes_max=frame_bytes_max)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 300_000])
def test_a_frame_is_what_the_library_would_write(size: int) -> None:
    payload = b"x" * size
    assert text_frame(payload) == Frame(TEXT, payload).serialize(mask=False)
    assert binary_frame(payload) == Frame(BINARY, payload).serialize(mask=False)


def test_members_are_added_at_the_end_of_an_object() -> None:
    assert spliced(b'{"a":{"b":1}}', b'"c":2') == b'{"a":{"b":1},"c":2}'


def test_subscribers_at_the_same_place_get_the_same_bytes() -> None:
    log, frames = ModelLog(), cache()
    log.append("system")
    events = log.run("system", 0, 10).events
    first = frames.run("system", 1, events, batch=True)
    again = frames.run("system", 1, log.run("system", 0, 10).events, batch=True)
    assert again.data is first.data
    assert frames.built == 1


def test_frames_that_were_let_go_are_made_again() -> None:
    log, frames = ModelLog(), cache()
    log.append("system")
    events = log.run("system", 0, 10).events
    first = frames.run("system", 1, events, batch=True)
    frames.clear()
    assert (len(frames), frames.bytes) == (0, 0)
    assert frames.run("system", 1, events, batch=True).data == first.data
    assert frames.built == 2


def test_the_dialects_do_not_share() -> None:
    log, frames = ModelLog(), cache()
    log.append("system")
    events = log.run("system", 0, 10).events
    assert frames.run("system", 1, events, batch=True) != frames.run("system", 1, events, batch=False)


def test_the_same_events_on_the_log_are_another_frame() -> None:
    log, frames = ModelLog(), cache()
    log.append("system")
    events = log.run("system", 0, 10).events
    (own,) = payloads(frames.run("system", 1, events, batch=True).data)
    (placed,) = payloads(frames.run("log", 1, events, batch=True).data)
    assert b'"in"' not in own
    assert b'"in":{"stream":"system","seq":1}' in placed


def test_the_memory_of_frames_is_bounded_and_the_oldest_goes_first() -> None:
    log, frames = ModelLog(), cache(bytes_max=10_000)
    for _ in range(50):
        log.append("system")
    built: list[Framed] = [
        frames.run("system", seq, log.run("system", seq - 1, 1).events, batch=True) for seq in range(1, 51)
    ]
    assert ENTRY_BYTES * len(frames) < frames.bytes <= 10_000
    assert frames.run("system", 50, log.run("system", 49, 1).events, batch=True) is built[-1]
    assert frames.run("system", 1, log.run("system", 0, 1).events, batch=True) is not built[0]


def test_a_frame_above_the_bound_is_served_and_not_kept() -> None:
    log, frames = ModelLog(), cache(bytes_max=10)
    log.append("system")
    assert frames.run("system", 1, log.run("system", 0, 1).events, batch=True).count == 1
    assert frames.bytes == 0


def test_names_are_escaped_as_json() -> None:
    log = ModelLog()
    log.append('we"ird')
    (payload,) = payloads(cache().run('we"ird', 1, log.run('we"ird', 0, 1).events, batch=True).data)
    assert msgspec.json.decode(payload)["stream"] == 'we"ird'


def test_events_as_server_sent_texts_are_one_binary_frame() -> None:
    log, frames = ModelLog(), cache()
    log.append("system")
    log.append("system")
    events = log.run("system", 0, 10).events
    framed = frames.run("system", 1, events, batch=False, framer=ServerSent("log-1"))
    text = payload_of(framed.data)
    assert (framed.count, text.count(b"\n\n")) == (2, 2)
    assert text.startswith(b"id: log-1:1\ndata: {")
