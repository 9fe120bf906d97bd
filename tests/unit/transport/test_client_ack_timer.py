"""When the Python client acks and when it stores cursors."""

from huahuo.transport.client.session import ACK_AFTER_S, SAVE_EVERY_S, AckTimer

WINDOW = 8


def test_an_ack_is_due_a_moment_after_the_first_event_it_covers() -> None:
    timer = AckTimer()
    timer.count(1)
    assert timer.ack_soon(WINDOW, 10.0)
    timer.count(1)
    assert not timer.ack_soon(WINDOW, 10.1), "the deadline stays"
    assert not timer.ack_due(10.0 + ACK_AFTER_S / 2)
    assert timer.ack_due(10.0 + ACK_AFTER_S)


def test_half_a_window_of_events_is_acked_at_once() -> None:
    timer = AckTimer()
    timer.count(WINDOW // 2)
    assert timer.ack_soon(WINDOW, 10.0)
    assert timer.ack_due(10.0)


def test_a_new_connection_begins_without_unacked_events() -> None:
    timer = AckTimer()
    timer.count(WINDOW)
    timer.forget()
    timer.ack_soon(WINDOW, 10.0)
    assert not timer.ack_due(10.0)


def test_cursors_are_stored_at_the_ack_but_not_twice_within_the_least_time() -> None:
    timer = AckTimer()
    assert not timer.save_due(10.0)
    timer.acked(10.0)
    assert timer.save_due(10.0)
    timer.acked(10.1)
    assert not timer.save_due(10.1)
    assert timer.save_due(10.0 + SAVE_EVERY_S)
