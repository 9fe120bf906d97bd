"""A group is decided the same however its events come: all in one append, in several, or each in its own."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from huahuo.eventstore.core.chain import GENESIS
from huahuo.eventstore.core.draft import Draft
from huahuo.eventstore.core.storage_port import Place
from huahuo.eventstore.model import Append, Appended, Head, NewEvent, StoredEvent
from tests.support.worlds.proposals import Nothing

_NAMES = st.text(min_size=1, max_size=3)
_NEW = st.builds(
    NewEvent,
    stream=st.sampled_from(["a", "b", "has events"]),
    type=_NAMES,
    body=st.binary(max_size=9),
    version=st.integers(0, 300),
    entity=_NAMES,
    command_id=st.sampled_from(["", "its own"]),
)
_COMMON = st.fixed_dictionaries(
    {
        "ts_ms": st.integers(-(2**62), 2**62),
        "principal": st.sampled_from(["", "user/42"]),
        "command_id": st.sampled_from(["", "of all"]),
        "cause": st.integers(0, 2**62),
    }
)


@given(st.lists(_NEW, max_size=8), st.sets(st.integers(1, 7)), _COMMON)
def test_events_are_numbered_and_linked_alike_in_one_append_and_in_several(
    news: list[NewEvent], cuts: set[int], common: dict[str, Any]
) -> None:
    bounds = [0, *sorted(cut for cut in cuts if cut < len(news)), len(news)]
    several = [tuple(news[begin:end]) for begin, end in pairwise(bounds)]
    each = [(new,) for new in news]
    whole = _decided([tuple(news)], common)
    assert _decided(several, common) == whole
    assert _decided(each, common) == whole
    assert [event.position for event in whole] == list(range(10, 10 + len(news)))


def _decided(appends: Sequence[tuple[NewEvent, ...]], common: dict[str, Any]) -> list[StoredEvent]:
    draft = Draft(Place(9, GENESIS, {"has events": Head(1, 5, GENESIS)}), Nothing(), "build", 0)
    for events in appends:
        assert isinstance(draft.add(Append(events=events, **common)), Appended)
    return draft.events
