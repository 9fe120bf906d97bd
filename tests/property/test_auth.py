"""Whatever a token says, it is believed only within the bounds, and nothing is raised."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from huahuo.actors.plugins.calls import Principal
from huahuo.transport.access.rights import AuthFailure, Verified
from huahuo.transport.access.tokens import Authenticator
from tests.support.models.forged import GOOD, NOW_MS, SECRET, forge

AUTH = Authenticator(SECRET)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.text(max_size=300))
def test_any_text_is_refused_and_nothing_is_raised(text: str) -> None:
    result = AUTH.verify(text, NOW_MS)
    assert isinstance(result, AuthFailure)
    assert result.code == "token_invalid"


@given(header=st.binary(max_size=60), payload=st.binary(max_size=200))
def test_any_bytes_in_a_signed_token_raise_nothing(header: bytes, payload: bytes) -> None:
    assert isinstance(AUTH.verify(forge(payload, header), NOW_MS), AuthFailure)
    assert isinstance(AUTH.verify(forge(payload), NOW_MS), AuthFailure)


@given(
    st.dictionaries(st.sampled_from([*GOOD, "groups", "iat", "nbf", "jti", "other"]), json_values, max_size=4)
)
def test_what_verifies_is_within_every_bound(changes: dict[str, Any]) -> None:
    result = AUTH.verify(forge(json.dumps({**GOOD, **changes}).encode()), NOW_MS)
    if isinstance(result, Verified):
        who = result.principal
        assert type(who.user_id) is int
        assert abs(who.user_id) < 2**53
        assert 0 < len(who.username) <= 256
        assert type(who.is_admin) is bool
        assert len(who.groups) <= 128
        assert result.expires_at_ms > NOW_MS
        assert result.iat_ms is None or result.iat_ms <= NOW_MS + 5000


@given(
    user_id=st.integers(-(2**53) + 1, 2**53 - 1),
    username=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=64),
    is_admin=st.booleans(),
    groups=st.lists(st.from_regex(r"[A-Za-z0-9_.-]{1,16}", fullmatch=True), max_size=8, unique=True),
    now_ms=st.integers(1_000_000_000_000, 4_000_000_000_000),
)
def test_what_is_minted_verifies_to_the_millisecond(
    user_id: int, username: str, is_admin: bool, groups: list[str], now_ms: int
) -> None:
    principal = Principal(user_id, username, is_admin, tuple(groups), signed_in_ms=now_ms)
    text = AUTH.mint(principal, now_ms=now_ms, ttl_s=60, jti="j")
    assert AUTH.verify(text, now_ms) == Verified(principal, now_ms + 60_000, "j", now_ms)
