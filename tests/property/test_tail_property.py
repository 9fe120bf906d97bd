"""The memory of recent events against a list of all events, whatever the commits and chunks are."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from huahuo.eventstore.model import LOG_STREAM, StoredEvent
from huahuo.replay import tail as module
from huahuo.replay.tail import EVENT_BYTES, Tail
from tests.support.proofs import examples

STREAMS = "abc"
sizes = st.integers(0, 40)
commits = st.lists(
    st.lists(st.tuples(st.sampled_from(STREAMS), sizes), min_size=1, max_size=9), min_size=1, max_size=14
)
asked = st.tuples(
    st.sampled_from((*STREAMS, LOG_STREAM)), st.integers(0, 60), st.integers(1, 12), st.integers(1, 200)
)


class Plain:
    """All events, and which of them a tail must hold."""

    def __init__(self, events_max: int, bytes_max: int) -> None:
        self.events_max = events_max
        self.bytes_max = bytes_max
        self.all: list[StoredEvent] = []
        self.held: list[StoredEvent] = []

    @property
    def weight(self) -> int:
        return sum(EVENT_BYTES + len(one.body) for one in self.held)

    def commit(self, parts: list[tuple[str, int]]) -> list[StoredEvent]:
        made: list[StoredEvent] = []
        for stream, size in parts:
            seq = 1 + sum(one.stream == stream for one in (*self.all, *made))
            place = len(self.all) + len(made) + 1
            made.append(StoredEvent(place, stream, seq, "t", b"x" * size, 1, 0, "", "", "", 0, "", bytes(32)))
        self.all += made
        self.held += made
        while len(self.held) > self.events_max or self.weight > self.bytes_max:
            del self.held[0]
        return made

    def lighten(self, bytes_max: int) -> None:
        while self.weight > bytes_max:
            del self.held[0]

    def edges(self) -> list[tuple[str, int, int, int]]:
        """Questions from the oldest event of each stream that is held, and from the one before it."""
        oldest = {one.stream: one.seq for one in reversed(self.held)}
        if self.held:
            oldest[LOG_STREAM] = self.held[0].position
        return [(of, seq - 1 - more, 12, 200) for of, seq in oldest.items() for more in range(min(seq, 2))]

    def answer(self, stream: str, after: int, events_max: int, bytes_max: int) -> list[StoredEvent] | None:
        places = {one.position if stream == LOG_STREAM else one.seq: one for one in self.held
                  if stream in (one.stream, LOG_STREAM)}  # fmt: skip
        found: list[StoredEvent] = []
        while (one := places.get(after + 1)) is not None and len(found) < events_max:
            if found and sum(len(event.body) for event in (*found, one)) > bytes_max:
                break
            found.append(one)
            after += 1
        return found or None


@settings(deadline=None, max_examples=examples(300))
@given(
    commits=commits,
    chunk_events=st.integers(1, 6),
    events_max=st.integers(0, 40),
    bytes_max=st.integers(0, 40 * (EVENT_BYTES + 20)),
    lightened=st.dictionaries(st.integers(0, 13), st.integers(0, 20 * EVENT_BYTES), max_size=2),
    questions=st.lists(asked, min_size=1, max_size=6),
)
def test_it_answers_as_a_list_of_all_events_would(
    commits: list[list[tuple[str, int]]],
    chunk_events: int,
    events_max: int,
    bytes_max: int,
    lightened: dict[int, int],
    questions: list[tuple[str, int, int, int]],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK_EVENTS", chunk_events)
        tail, plain = Tail(events_max=events_max, bytes_max=bytes_max), Plain(events_max, bytes_max)
        for n, parts in enumerate(commits):
            made = plain.commit(parts)
            grouped = tail.extend(made)
            assert grouped == {
                stream: of_stream
                for stream in STREAMS
                if (of_stream := [one for one in made if one.stream == stream])
            }
            if n in lightened:
                tail.lighten(lightened[n])
                plain.lighten(lightened[n])
            assert (len(tail), tail.weight) == (len(plain.held), plain.weight)
            for stream, after, count, size in (*questions, *plain.edges()):
                expected = plain.answer(stream, after, count, size)
                for _ in range(len(plain.held) // module.SORTED_AT_ONCE + 1):
                    found = tail.events(stream, after, events_max=count, bytes_max=size)
                    if found is not None:
                        break
                assert (None if found is None else list(found)) == expected
