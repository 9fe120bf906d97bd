"""Frames, kinds of messages and their bounds."""

from huahuo.transport.protocol.frames import (
    ENTRY_BYTES,
    FrameCache,
    Framed,
)
from huahuo.transport.protocol.incoming import Authenticate, Parsed, parse
from tests.support.drivers.session import ModelLog


def test_no_field_of_a_message_shows_in_its_repr() -> None:
    parsed = parse(b'{"action":"note","text":"canary"}', bytes_max=100, depth_max=4)
    assert isinstance(parsed, Parsed)
    assert "canary" not in repr(parsed)
    assert "canary" not in repr(Authenticate(token="canary"))


def cache(bytes_max: int = 1 << 20, frame_bytes_max: int = 256 << 10) -> FrameCache:
    return FrameCache(bytes_max=bytes_max, frame_bytes_max=frame_bytes_max)


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
