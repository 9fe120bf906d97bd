"""Frames, kinds of messages and their bounds."""

from huahuo.transport.protocol.codes import SENTENCES, ErrorCode
from huahuo.transport.protocol.flow_control import Flow, Window
from huahuo.transport.protocol.frames import (
    ENTRY_BYTES,
    FrameCache,
    Framed,
)
from huahuo.transport.protocol.incoming import Authenticate, Invalid, Parsed, parse, parse_closely
from huahuo.transport.protocol.problem import of_service
from tests.support.drivers.session import ModelLog


def test_no_field_of_a_message_shows_in_its_repr() -> None:
    parsed = parse(b'{"action":"note","text":"canary"}', bytes_max=100, depth_max=4)
    assert isinstance(parsed, Parsed)
    assert "canary" not in repr(parsed)
    assert "canary" not in repr(Authenticate(token="canary"))


def test_a_message_beyond_its_bound_is_not_even_decoded() -> None:
    for text in ('{"a":1}', b'{"a":1}'):
        refused = parse_closely(text, bytes_max=6, depth_max=4)
        assert isinstance(refused, Invalid)
        assert refused.code == ErrorCode.BAD_MESSAGE


def test_an_ack_within_a_hole_releases_nothing_and_is_no_progress() -> None:
    window, flow = Window(10), Flow(0)
    window.sent(flow, 3, 1.0)
    window.skipped(flow, 9)
    window.sent(flow, 10, 2.0)
    window.acked(flow, 3, 3.0)
    assert (window.outstanding, window.waiting_since_s) == (1, 3.0)
    window.acked(flow, 6, 4.0)
    assert (window.outstanding, window.waiting_since_s) == (1, 3.0)
    window.acked(flow, 10, 5.0)
    assert (window.outstanding, window.waiting_since_s) == (0, None)


def cache(bytes_max: int = 1 << 20, frame_bytes_max: int = 256 << 10) -> FrameCache:
    return FrameCache(bytes_max=bytes_max, frame_bytes_max=frame_bytes_max)


def test_subscribers_at_the_same_place_get_the_same_bytes() -> None:
    log, frames = ModelLog(), cache()
    log.append("system")
    events = log.run("system", 0, 10).events
    first = frames.run("system", 1, events, batch=True)
    again = frames.run("system", 1, log.run("system", 0, 10).events, batch=True)
    assert again.data is first.data
    assert frames.built == 1


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


def test_a_text_of_a_plug_in_becomes_what_its_code_means() -> None:
    assert of_service("not_found", "邮箱不存在") == SENTENCES[ErrorCode.NOT_FOUND]
    assert of_service("out_of_stock", "数量不足") == "数量不足"
