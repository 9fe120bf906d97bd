"""Edges of the protocol's own rules: what a message shows of itself, its size, and acks within a hole."""

from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.protocol.flow_control import Flow, TransportSettings, Window
from huahuo.transport.protocol.incoming import Authenticate, Invalid, Parsed, converted, parse, parse_closely


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


def test_an_action_that_takes_any_fields_gets_them_as_they_came() -> None:
    fields = {"a": [1, {"b": 2}]}
    assert converted(fields, None, dict) is fields


def test_the_first_message_may_be_no_larger_than_any_other() -> None:
    assert TransportSettings(unauthenticated_bytes_max=100, message_bytes_max=50).first_bytes_max == 50
    assert TransportSettings(unauthenticated_bytes_max=50, message_bytes_max=100).first_bytes_max == 50


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
