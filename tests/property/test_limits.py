"""Limits under any sequence of calls."""

from hypothesis import given
from hypothesis import strategies as st

from huahuo.transport.access.door import AddressDoor, Entry
from huahuo.transport.protocol.flow_control import TokenBucket


@given(
    rate=st.floats(0.1, 100),
    burst=st.floats(1, 100),
    gaps_s=st.lists(st.floats(0, 10), max_size=200),
)
def test_a_bucket_never_gives_more_than_burst_plus_rate_times_time(
    rate: float, burst: float, gaps_s: list[float]
) -> None:
    bucket = TokenBucket(rate, burst, now_s=0)
    now_s, taken = 0.0, 0
    for gap_s in gaps_s:
        now_s += gap_s
        taken += bucket.take(now_s)
        assert taken <= burst + rate * now_s + 1e-6


@given(rate=st.floats(0.1, 100), takes=st.integers(1, 50))
def test_a_bucket_gives_again_after_the_wait_it_names(rate: float, takes: int) -> None:
    bucket = TokenBucket(rate, burst=1, now_s=0)
    now_s = 0.0
    for _ in range(takes):
        now_s += bucket.wait_s(now_s) + 1e-9
        assert bucket.take(now_s)


@given(
    limit=st.integers(1, 5), steps=st.lists(st.tuples(st.booleans(), st.sampled_from("abc")), max_size=100)
)
def test_counts_follow_what_entered_and_left_and_stay_below_twice_the_limit(
    limit: int, steps: list[tuple[bool, str]]
) -> None:
    table = AddressDoor(limit)
    model = dict.fromkeys("abc", 0)
    for enters, key in steps:
        if enters:
            entry = table.enter(key)
            assert (entry is Entry.ADMITTED) == (model[key] < limit)
            assert (entry is Entry.REFUSED) == (model[key] >= 2 * limit)
            model[key] += entry is not Entry.REFUSED
        elif model[key]:
            table.leave(key)
            model[key] -= 1
        assert all(table.connection_count(key) == model[key] <= 2 * limit for key in model)


@given(peer=st.text(max_size=40), forwarded=st.lists(st.text(max_size=60), max_size=5))
def test_no_header_and_no_peer_breaks_the_door_or_makes_a_long_key(peer: str, forwarded: list[str]) -> None:
    key = AddressDoor(trusted_proxies=["0.0.0.0/0", "::/0"]).address(peer, forwarded)
    assert 0 < len(key) <= 64


@given(peer=st.ip_addresses(), forwarded=st.lists(st.text(max_size=60), max_size=5))
def test_an_untrusted_peer_counts_as_itself_whatever_it_sends(peer: object, forwarded: list[str]) -> None:
    door = AddressDoor()
    assert door.address(str(peer), forwarded) == door.address(str(peer), [])
