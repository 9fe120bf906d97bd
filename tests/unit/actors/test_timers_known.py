"""What is known of pending timers without reading them, and when that is not enough."""

from collections.abc import Sequence

from huahuo.actors.timers.clockwork import Heard
from huahuo.actors.timers.timer import Known, Timer
from huahuo.eventstore.model import StoredEvent
from tests.support.models.faulty_log import faulty_log, write


def test_the_changes_that_are_remembered_are_bounded() -> None:
    known = Known()
    known.move(1)
    for head in range(2, 400):
        known.expect(head, {f"n{head}": 0})
        known.move(head)
    assert known.pending("a", 10, 1) is None
    assert known.pending("a", 10, 399) is True


def timer(entity: str = "bell/b", seq: int = 1) -> Timer:
    return Timer(entity, "a", 10, "ring", b"{}", 0, seq)


def seq_of(heard: Heard, timer: Timer) -> int:
    """The head at which a timer of the page that came is certified."""
    [(_, certified)] = heard.certified([(timer.key, timer)])
    return certified.seq


async def test_a_page_certifies_timers_at_the_head_or_at_the_one_before_what_was_heard_meanwhile() -> None:
    log = await faulty_log()
    for _ in range(2):
        await write(log, "timer/bell/b", "timer/bell/c")
    await write(log, "timer/bell/c")
    heard = Heard(log)

    def hear(events: Sequence[StoredEvent]) -> None:
        heard.hear(events, [event for event in events if event.stream.startswith("timer/")])

    log.listen(hear)
    heard.begin()
    await write(log, "timer/bell/c", "other/1")
    assert seq_of(heard, timer()) == 2
    await write(log, "timer/bell/c")
    assert seq_of(heard, timer("bell/c")) == 3
    assert seq_of(heard, timer("bell/c", seq=5)) == 5


async def test_a_page_certifies_nothing_after_a_lost_signal_of_the_log() -> None:
    log = await faulty_log()
    await write(log, "timer/bell/b", "timer/bell/b")
    heard = Heard(log)
    heard.begin()
    await write(log, "other/1")  # which nobody hears
    assert seq_of(heard, timer()) == 1
    heard.begin()
    assert seq_of(heard, timer()) == 2
