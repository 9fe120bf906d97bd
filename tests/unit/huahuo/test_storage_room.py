"""Who may store more: on a nearly full disk, over a quota, and of streams begun within a day."""

from structlog.testing import capture_logs

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.executor import InlineExecutor
from huahuo.storage.room import USERS_MAX, Begun, Looking, Room


def counted(per_day: int) -> tuple[Room, Begun, FakeAmbient]:
    room, ambient = Room(0), FakeAmbient()
    return room, room.count_begun(per_day, ambient), ambient


def test_what_was_under_way_at_the_bound_is_owed() -> None:
    _, begun, ambient = counted(4)
    for _ in range(6):
        begun.note("user/1")
    assert begun.wait_s("user/1") == 3 * 86_400 / 4
    ambient.advance(86_400)
    assert begun.wait_s("user/1") == 0


def test_of_too_many_users_the_longest_idle_are_forgotten() -> None:
    _, begun, _ = counted(1)
    for user in range(USERS_MAX + 5):
        begun.note(f"user/{user}")
    assert (len(begun), len(begun.over)) == (USERS_MAX, USERS_MAX)


async def test_a_disk_that_does_not_answer_is_told_of_once_and_again_after_it_answered() -> None:
    answers: list[int | str] = ["gone", "gone", "stale", "stale", 1 << 40, "stale"]

    def free_bytes() -> int:
        if isinstance(answer := answers[len(told)], str):
            raise OSError(0, answer)
        return answer

    told: list[list[str]] = []
    looking = Looking(Room(1000), free_bytes, InlineExecutor())
    for _ in answers:
        with capture_logs() as lines:
            await looking.look()
        told.append([line["reason"] for line in lines if line["event"] == "free_space_unknown"])
    assert told == [["gone"], [], ["stale"], [], [], ["stale"]]
