"""An idle connection is left alone until something may be due, and nothing is found late by that."""

from hypothesis import given
from hypothesis import strategies as st

from huahuo.transport.protocol.dialects import DOCUMENT, V1, Dialect
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.session.interface import Now
from huahuo.transport.session.liveness import LOOK_S_MAX, Liveness

SETTINGS = TransportSettings()
SECONDS = st.floats(0, 100)


@given(
    dialect=st.sampled_from([V1, DOCUMENT]),
    happenings=st.lists(st.tuples(st.sampled_from(["heard", "pings", "warnings", "wake_up"]), SECONDS)),
    idle_s=SECONDS,
    unacked_s=st.none() | SECONDS,
    token_ms=st.none() | st.integers(-10_000, 1_000_000),
    paced=st.booleans(),
    share=st.floats(0, 1, exclude_max=True),
)
def test_before_the_time_that_it_names_nothing_is_due(
    dialect: Dialect,
    happenings: list[tuple[str, float]],
    idle_s: float,
    unacked_s: float | None,
    token_ms: int | None,
    paced: bool,
    share: float,
) -> None:
    now_s = 1000.0
    liveness = Liveness(SETTINGS, dialect, now_s)
    for what, after_s in happenings:
        now_s += after_s
        match what:
            case "heard":
                liveness.heard_s = now_s
            case "pings":
                liveness.pings(Now(now_s, 0))
            case "warnings":
                liveness.warnings(0)
            case "wake_up":
                liveness.wake_up(now_s)
    now_s += idle_s
    since_s = None if unacked_s is None else now_s - unacked_s
    until_s = liveness.quiet_until_s(now_s, since_s, token_ms, paced=paced)
    assert until_s <= now_s + (LOOK_S_MAX if paced else SETTINGS.heartbeat_s)
    later_s = now_s + (until_s - now_s) * share
    if later_s < until_s and later_s >= now_s:
        late_ms = int((later_s - now_s) * 1000)
        assert liveness.overdue(later_s, connected=token_ms is None, unacked_since_s=since_s) is None
        assert liveness.pings(Now(later_s, 0)) == []
        if token_ms is not None:
            assert token_ms - late_ms >= 0
            assert liveness.warnings(token_ms - late_ms) == []
