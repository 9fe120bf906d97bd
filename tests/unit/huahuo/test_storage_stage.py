"""The stage of a nearly full disk: when it begins, when it ends, who is refused meanwhile."""

from huahuo.actors.plugins.calls import RefuseGrowth
from huahuo.storage.room import RETRY_S, Room


def test_the_stage_begins_below_the_threshold_and_ends_a_quarter_above_it() -> None:
    room = Room(1000)
    looks = [(1000, False), (999, True), (1000, True), (1249, True), (1250, False), (1000, False)]
    for free, is_low in looks:
        room.look(free)
        assert room.is_low is is_low


def test_a_disk_at_the_threshold_does_not_enter_and_leave_the_stage_at_every_look() -> None:
    room, told = Room(1000), list[object]()
    room.guard(told.append, of_users=False)
    for free in (1001, 999, 1001, 999, 1001, 999):
        room.look(free)
    assert len(told) == 1


def test_without_a_threshold_no_disk_is_too_full() -> None:
    room = Room(0)
    room.look(0)
    assert not room.is_low


def test_on_a_nearly_full_disk_everybody_is_refused_and_told_when_to_come_back() -> None:
    room = Room(1000)
    room.look(10)
    for principal in ("user/1", "service"):
        refusal = room.refuse(principal)
        assert refusal is not None
        assert (refusal.code, refusal.retry_s) == ("storage_full", RETRY_S)
    assert room.refused == 2
    room.look(5000)
    assert room.refuse("user/1") is None


def test_a_user_over_the_quota_is_refused_and_no_other() -> None:
    room = Room(0)
    room.set_over(frozenset({"user/1"}))
    refusal = room.refuse("user/1")
    assert refusal is not None
    assert refusal.code == "quota_exceeded"
    assert room.refuse("user/2") is None
    assert not room.has_room(1)
    assert room.has_room(2)


def test_a_door_is_asked_only_while_there_is_something_to_ask() -> None:
    room = Room(1000)
    commands: list[RefuseGrowth | None] = []
    of_the_service: list[RefuseGrowth | None] = []
    room.guard(commands.append, of_users=True)
    room.guard(of_the_service.append, of_users=False)
    room.look(5000)
    assert not commands
    room.set_over(frozenset({"user/1"}))
    assert commands == [room.refuse]
    assert of_the_service == [None]
    room.look(10)
    assert of_the_service == [None, room.refuse]
    room.look(5000)
    room.set_over(frozenset())
    assert (commands[-1], of_the_service[-1]) == (None, None)


def test_readyz_says_how_much_is_free_and_how_much_must_be() -> None:
    room = Room(256 << 20)
    room.look(100 << 20)
    said = room.sentence()
    assert said is not None
    assert "100 MiB are free" in said
    assert "320 MiB" in said
    room.look(1 << 40)
    assert room.sentence() is None
