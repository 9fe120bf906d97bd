"""I21: compression changes nothing. The same story over `huahuo.v1` and `huahuo.v1.zstd`, compared."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from huahuo.transport.protocol.dialects import V1, V1_ZSTD, Dialect
from huahuo.transport.protocol.flow_control import TransportSettings
from tests.support.drivers.session import Driver, ModelLog
from tests.support.worlds.compressed import compression

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.lists(st.text(min_size=1, max_size=400), min_size=1, max_size=9)),
        st.tuples(st.just("ack"), st.integers(0, 40)),
        st.tuples(st.just("again"), st.sampled_from([0, 3, "start", "snapshot", "head"])),
    ),
    max_size=12,
)


def told(dialect: Dialect, steps: list[Any], frame_bytes_max: int) -> tuple[list[Any], int]:
    """Everything a client is told over the story, and how often in binary."""
    settings = TransportSettings(frame_bytes_max=frame_bytes_max, frame_events_max=8, window=20)
    session = Driver(ModelLog(), dialect=dialect, settings=settings, compression=compression())
    result = session.login(resume={"log": session.log.log_id, "cursors": {"user/42": 0}})
    result.pop("dictionary", None)
    messages = [result, *session.take()]
    for what, value in steps:
        if what == "append":
            messages += session.append("user/42", *value)
        elif what == "ack":
            messages += session.ack(user_42=value)
        else:
            log = session.log.log_id if isinstance(value, int) else None
            messages += session.say(action="subscribe", id="s", stream="user/42", after=value, log=log)
    return messages, len(session.binary)


@given(steps=STEPS, frame_bytes_max=st.integers(300, 4000))
def test_a_client_is_told_the_same_with_and_without_compression(
    steps: list[Any], frame_bytes_max: int
) -> None:
    plain, none = told(V1, steps, frame_bytes_max)
    packed, _some = told(V1_ZSTD, steps, frame_bytes_max)
    assert packed == plain
    assert none == 0
