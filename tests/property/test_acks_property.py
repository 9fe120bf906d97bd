"""Acks go short ways that a message of any other form does not go: all of them do the same."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from huahuo.transport.protocol.dialects import DOCUMENT, V1, Dialect
from huahuo.transport.protocol.flow_control import TransportSettings
from tests.support.drivers.session import Driver

STREAMS = ("user/42", "system", "group/ops", "nobody/1")
STREAM = st.sampled_from(STREAMS)


def one(stream: str, seq: int) -> bytes:
    return msgspec.json.encode({"action": "ack", "cursors": {stream: seq}})


def several(cursors: dict[str, int]) -> bytes:
    return msgspec.json.encode({"action": "ack", "cursors": cursors})


USUAL_ACKS = st.builds(one, st.just("user/42"), st.integers(0, 8))
ACKS = st.one_of(
    st.builds(one, STREAM, st.integers(0, 30)),
    st.builds(several, st.dictionaries(STREAM, st.integers(0, 30), max_size=3)),
    st.sampled_from(
        (
            b'{"action":"ack","cursors":{"user/42":01}}',
            b'{"action":"ack","cursors":{"user/42":-1}}',
            b'{"action":"ack","cursors":{"user/42":9007199254740992}}',
            b'{"action":"ack","cursors":{"user/42":2},"id":"a"}',
            b'{"action":"ack","cursors":{"user/42":2,"user/42":3}}',
            b'{"action":"ack", "cursors":{"user/42":2}}',
            b'{"action":"ack"}',
        )
    ),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ack"), USUAL_ACKS),
        st.tuples(st.just("ack"), USUAL_ACKS),
        st.tuples(st.just("ack"), ACKS),
        st.tuples(st.just("append"), st.just("user/42")),
        st.tuples(st.just("append"), STREAM),
        st.tuples(
            st.just("subscribe"), st.tuples(STREAM, st.sampled_from(["start", "head", "snapshot", 0, 1, 5]))
        ),
        st.tuples(st.just("unsubscribe"), STREAM),
        st.tuples(st.just("refresh"), st.sampled_from(["alice", "bob", "expired"])),
        st.tuples(st.just("wait"), st.integers(1, 40)),
    ),
    max_size=40,
)


def facts(driver: Driver) -> Any:
    """All that an ack may change."""
    session = driver.session
    delivery, window = session.delivery, session.delivery.window
    flows = {
        stream: (sub.state, sub.flow.floor, sub.flow.sent, sub.flow.peak, sub.flow.holes)
        for stream, sub in delivery.subs.items()
    }
    heard_s = session.liveness.heard_s
    return flows, window.outstanding, window.waiting_since_s, heard_s, driver.acked, driver.closed


def step(driver: Driver, what: str, how: Any) -> Sequence[Any]:
    log = driver.log.log_id
    steps: dict[str, Callable[[], Sequence[Any]]] = {
        "ack": lambda: driver.say_raw(how),
        "append": lambda: driver.append(how, "x"),
        "subscribe": lambda: driver.say(action="subscribe", id="s", stream=how[0], after=how[1], log=log),
        "unsubscribe": lambda: driver.say(action="unsubscribe", id="u", stream=how),
        "refresh": lambda: driver.say(action="authenticate", id="a", token=how),
        "wait": lambda: driver.after(how, heard=False),
    }
    return steps[what]()


@given(steps=STEPS, dialect=st.sampled_from([V1, V1, DOCUMENT]))
def test_acks_do_the_same_by_every_way(steps: list[tuple[str, Any]], dialect: Dialect) -> None:
    settings = TransportSettings(window=6, messages_per_s=1, ack_timeout_s=90)
    short, long = (Driver(dialect=dialect, settings=settings) for _ in range(2))
    long.short_ways = False
    assert short.login() == long.login()
    for what, how in steps:
        if short.closed is not None:
            break
        assert step(short, what, how) == step(long, what, how)
        assert facts(short) == facts(long)


def test_an_ack_that_differs_from_the_last_one_in_the_number_goes_the_shortest_way() -> None:
    driver = Driver()
    driver.login()
    driver.append("user/42", "a", "b", "c")
    for seq in (1, 2, 2, 3):
        driver.after(1, heard=False)
        assert driver.say_raw(one("user/42", seq)) == []
        assert driver.session.liveness.heard_s == driver.now.s
    assert driver.quick_acks == 3
    assert driver.acked == {"user/42": 3}
    assert driver.session.delivery.window.outstanding == 0
    assert driver.say_raw(one("user/42", 4))[0]["code"] == "bad_ack"
