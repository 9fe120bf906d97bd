"""What users may read and do."""

import pytest

from huahuo.actors.plugins.calls import Principal
from huahuo.transport.access.rights import Judged
from huahuo.transport.commands.published_events import TypesOfUsers

ALICE = Principal(42, "alice")
ADMIN = Principal(1, "root", is_admin=True)


@pytest.mark.parametrize(
    ("judged", "who", "stream", "asks"),
    [
        (Judged(), ALICE, "order/1", False),
        (Judged(kinds=frozenset({"order"})), ALICE, "order/1", True),
        (Judged(kinds=frozenset({"order"})), ADMIN, "order/1", True),
        (Judged(kinds=frozenset({"order"})), ALICE, "group/ops", False),
        (Judged(others=True), ALICE, "group/ops", True),
        (Judged(others=True), ADMIN, "group/ops", False),
        (Judged(others=True), ADMIN, "user/43", False),
        (Judged(others=True), ALICE, "user/42", False),
        (Judged(others=True), ALICE, "user/43", True),
        (Judged(others=True), ALICE, "system", False),
        (Judged(others=True), ALICE, "mailbox/1", False),
    ],
)
def test_an_application_is_asked_where_its_rules_and_no_rule_of_ours_decide(
    judged: Judged, who: Principal, stream: str, asks: bool
) -> None:
    assert judged.asks(who, stream) is asks


@pytest.mark.parametrize(
    ("judged", "stream", "concerns"),
    [
        (Judged(kinds=frozenset({"order"})), "order/1", True),
        (Judged(kinds=frozenset({"order"})), "group/ops", False),
        (Judged(others=True), "group/ops", True),
        (Judged(others=True), "mailbox/1", False),
        (Judged(others=True), "system", False),
        (Judged(others=True), "log", False),
    ],
)
def test_a_judge_concerns_the_streams_of_its_kinds_or_all_that_are_not_internal(
    judged: Judged, stream: str, concerns: bool
) -> None:
    assert judged.concerns(stream) is concerns


def test_beyond_what_all_together_may_bring_each_user_still_has_an_even_share() -> None:
    types = TypesOfUsers(types_per_user=3, types_max=6)
    assert types.admit("user/1", ["a", "b", "c"])
    assert types.admit("user/2", ["d", "e", "f"])
    assert types.admit("user/3", ["g", "h"])
    assert not types.admit("user/3", ["i"])
    assert types.admit("user/3", ["a"])


def test_types_of_a_publication_that_failed_are_given_back() -> None:
    types = TypesOfUsers(types_per_user=2)
    assert types.admit("user/1", ["a"])
    brought = types.new_of(["a", "b"])
    assert types.admit("user/1", brought)
    types.give_back("user/1", brought)
    assert types.admit("user/1", ["c"])
    assert not types.admit("user/1", ["b"])
