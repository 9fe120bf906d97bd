"""How many types of events users may bring into the log."""

from huahuo.transport.commands.published_events import TypesOfUsers


def test_a_user_who_publishes_ever_new_types_is_refused_and_may_use_those_that_there_are() -> None:
    types = TypesOfUsers(types_per_user=3)
    assert [types.admit("user/1", [f"t{n}"]) for n in range(5)] == [True, True, True, False, False]
    assert types.admit("user/1", ["t0", "t2"])
    assert types.admit("user/2", ["t3", "t0"])
    assert types.admit("user/1", ["t3"])


def test_beyond_what_all_together_may_bring_each_user_still_has_an_even_share() -> None:
    types = TypesOfUsers(types_per_user=3, types_max=6)
    assert types.admit("user/1", ["a", "b", "c"])
    assert types.admit("user/2", ["d", "e", "f"])
    assert types.admit("user/3", ["g", "h"])
    assert not types.admit("user/3", ["i"])
    assert types.admit("user/3", ["a"])


def test_a_refused_list_of_events_brings_none_of_its_types() -> None:
    types = TypesOfUsers(types_per_user=2)
    assert not types.admit("user/1", ["a", "b", "c"])
    assert types.admit("user/1", ["a", "b"])


def test_types_of_a_publication_that_failed_are_given_back() -> None:
    types = TypesOfUsers(types_per_user=2)
    assert types.admit("user/1", ["a"])
    brought = types.new_of(["a", "b"])
    assert types.admit("user/1", brought)
    types.give_back("user/1", brought)
    assert types.admit("user/1", ["c"])
    assert not types.admit("user/1", ["b"])
