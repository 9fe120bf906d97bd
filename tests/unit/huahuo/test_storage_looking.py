"""Looking at the free space of a disk that does not answer."""

from structlog.testing import capture_logs

from huahuo.eventstore.executor import InlineExecutor
from huahuo.storage.room import Looking, Room


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
