"""The tail: a bounded, contiguous memory of the newest events."""

from collections.abc import Iterator

import pytest

from huahuo.eventstore.model import LOG_STREAM, StoredEvent
from huahuo.replay import tail as module
from huahuo.replay.tail import EVENT_BYTES, Tail

MANY = 1 << 20


def stored(*streams: str, body: bytes = b"{}", position: int = 0) -> Iterator[StoredEvent]:
    """Events of these streams behind `position`, as if nothing was before in any of them."""
    seqs: dict[str, int] = {}
    for place, stream in enumerate(streams, position + 1):
        seqs[stream] = seqs.get(stream, 0) + 1
        yield event(stream, seqs[stream], place, body)


def event(stream: str, seq: int, position: int, body: bytes = b"{}") -> StoredEvent:
    return StoredEvent(position, stream, seq, "t", body, 1, 0, "", "", "", 0, "", b"")


def numbers(tail: Tail, stream: str, after: int, events_max: int = 99, bytes_max: int = 999) -> list[int]:
    found = tail.events(stream, after, events_max=events_max, bytes_max=bytes_max)
    assert found is not None
    return [e.position if stream == LOG_STREAM else e.seq for e in found]


def holds(tail: Tail, stream: str, after: int) -> bool:
    return tail.events(stream, after, events_max=1, bytes_max=1) is not None


def test_a_question_has_few_chunks_sorted_and_the_next_one_a_few_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "CHUNK_EVENTS", 2)
    tail = Tail(events_max=100, bytes_max=MANY)
    chunks = module.SORTED_AT_ONCE + 1
    tail.extend(list(stored("a", "a", *"b" * 2 * (chunks - 1))))
    assert not holds(tail, "a", 0), "the store gives the answer"
    assert tail.sorted_chunks == module.SORTED_AT_ONCE
    assert numbers(tail, "a", 0) == [1, 2]
    assert tail.sorted_chunks == chunks


def test_a_repeated_signal_changes_nothing() -> None:
    tail = Tail(events_max=10, bytes_max=MANY)
    events = list(stored("a", "b", "a"))
    tail.extend(events)
    assert tail.extend(events)
    assert numbers(tail, LOG_STREAM, 0) == [1, 2, 3]


@pytest.mark.parametrize("chunk_events", [1, 2, module.CHUNK_EVENTS])
def test_seqs_that_do_not_follow_are_never_one_run(
    chunk_events: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK_EVENTS", chunk_events)
    tail = Tail(events_max=10, bytes_max=MANY)
    tail.extend([event("a", 1, 1), event("a", 2, 2), event("a", 7, 3), event("a", 8, 4)])
    assert not holds(tail, "a", 0)
    assert not holds(tail, "a", 5)
    assert numbers(tail, "a", 6) == [7, 8]
    tail.extend([event("a", 10, 5)])
    assert not holds(tail, "a", 6)
    assert numbers(tail, "a", 9) == [10]


def test_what_was_evicted_is_let_go_of() -> None:
    tail = Tail(events_max=10, bytes_max=MANY)
    for one in stored(*["a"] * 5000):
        tail.extend([one])
    assert tail.slots < 2 * 200, "for the log and for the stream"


def test_the_oldest_position_goes_first_when_there_are_too_many_events() -> None:
    tail = Tail(events_max=3, bytes_max=MANY)
    tail.extend(list(stored("a", "b", "b", "a", "b")))
    assert len(tail) == 3
    assert not holds(tail, "a", 0)
    assert numbers(tail, "a", 1) == [2]
    assert numbers(tail, "b", 1) == [2, 3]
    assert numbers(tail, LOG_STREAM, 2) == [3, 4, 5]


def test_the_oldest_position_goes_first_when_there_are_too_many_bytes() -> None:
    tail = Tail(events_max=100, bytes_max=2 * EVENT_BYTES + 25)
    tail.extend(list(stored("a", "b", "a", body=b"x" * 10)))
    assert tail.weight == 2 * EVENT_BYTES + 20
    assert not holds(tail, "a", 0)
    assert numbers(tail, LOG_STREAM, 1) == [2, 3]


def test_small_events_are_bounded_by_what_they_weigh() -> None:
    tail = Tail(events_max=100, bytes_max=5 * EVENT_BYTES)
    tail.extend(list(stored(*["a"] * 20, body=b"")))
    assert (len(tail), tail.weight) == (5, 5 * EVENT_BYTES)
    assert numbers(tail, "a", 15) == [16, 17, 18, 19, 20]
