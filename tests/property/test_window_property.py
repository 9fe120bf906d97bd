"""The window against a model that remembers every single event."""

from hypothesis import given
from hypothesis import strategies as st

from huahuo.transport.protocol.flow_control import Flow, Window

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 1), st.integers(1, 5)),
        st.tuples(st.just("skip"), st.integers(0, 1), st.integers(1, 9)),
        st.tuples(st.just("ack"), st.integers(0, 1), st.integers(0, 60)),
        st.tuples(st.just("drop"), st.integers(0, 1), st.integers(0, 9)),
    ),
    max_size=60,
)


@given(STEPS)
def test_outstanding_is_the_number_of_events_sent_and_not_acked(steps: list[tuple[str, int, int]]) -> None:
    window = Window(10)
    flows = [Flow(3), Flow(0)]
    owed: list[set[int]] = [set(), set()]
    for now_s, (what, index, number) in enumerate(steps):
        flow, events = flows[index], owed[index]
        match what:
            case "send":
                count = min(number, window.credit)
                if count > 0:
                    events |= set(range(flow.sent + 1, flow.sent + count + 1))
                    window.sent(flow, flow.sent + count, now_s)
            case "skip":
                window.skipped(flow, flow.sent + number)
            case "ack":
                acked = number % (flow.peak + 1)
                window.acked(flow, acked, now_s)
                owed[index] = {seq for seq in events if seq > acked}
            case _:
                window.dropped(flow)
                flows[index] = Flow(number, flow.peak)
                owed[index] = set()
        assert [flow.outstanding for flow in flows] == [len(events) for events in owed]
        assert window.outstanding == sum(len(events) for events in owed)
        assert 0 <= window.outstanding <= window.size
        assert (window.waiting_since_s is None) == (window.outstanding == 0)
