"""Applying proposals, without any node: the same state, offset and proposal give the same result."""

from collections.abc import Sequence

import pytest

from huahuo.eventstore.core.chain import GENESIS
from huahuo.eventstore.core.command_records import RESTART_STEP_MS_MAX
from huahuo.eventstore.core.draft import Draft
from huahuo.eventstore.core.storage_port import Passed, Place
from huahuo.eventstore.errors import WrongKey
from huahuo.eventstore.model import Append, Appended, Head, NewEvent
from huahuo.eventstore.replicated import proposal as birth
from huahuo.eventstore.replicated.peers import Agreement
from huahuo.eventstore.replicated.proposal import Birth, Codec, Item
from huahuo.eventstore.replicated.state_machine import (
    Member,
    Run,
    Shared,
    Step,
    is_next,
    time_after,
)
from huahuo.eventstore.sequencer.port import Ordered
from tests.support.worlds.proposals import CODEC, Nothing, encoded, proposal


def said(stream: str = "s") -> Item:
    return Item(Append(ts_ms=1, events=(NewEvent(stream, "said", b"{}"),)))


@pytest.mark.parametrize(
    ("epoch", "token", "number", "applied"),
    [(2, "u", 1, True), (2, "u", 2, False), (1, "u", 1, False), (1, "t", 2, True), (0, "u", 1, False)],
)
def test_a_new_incarnation_begins_with_its_first_number_and_a_higher_epoch(
    epoch: int, token: str, number: int, applied: bool
) -> None:
    state = Shared(1, GENESIS, 1000, {"a": Member(1, "t", 1, 1000, "b")})
    assert is_next(state, proposal(number, epoch=epoch, token=token)) is applied


def test_no_byte_of_a_proposal_can_change_unnoticed() -> None:
    data = encoded(proposal(1, said()))
    assert CODEC.decode(data) is not None
    for at in range(len(data)):
        assert CODEC.decode(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]) is None
    assert Codec(bytes(32), "another log").decode(data) is None
    assert Codec(b"k" * 32, "log").decode(data) is None


def test_a_genesis_record_holds_for_its_key_and_in_each_of_its_bytes() -> None:
    born, key = Birth(1, "id"), b"k" * 32
    told = birth.dump_birth(born, key)
    assert birth.load_birth(told, key) == born
    with pytest.raises(WrongKey):
        birth.load_birth(told, b"j" * 32)
    for at in range(1, len(told)):
        with pytest.raises(WrongKey):
            birth.load_birth(told[:at] + bytes([told[at] ^ 1]) + told[at + 1 :], key)


def test_a_restart_moves_log_time_by_an_hour_at_most() -> None:
    state = Shared(1, GENESIS, 1000, {"a": Member(1, "t", 1, 1000, "b")})
    late = proposal(1, epoch=2, clock_ms=10**12, advance_ms=10**12)
    assert time_after(state, late) == 1000 + RESTART_STEP_MS_MAX


def passed(offset: int, what: bytes = b"same") -> Passed:
    return Passed(offset, what, what)


def test_a_node_that_as_many_contradict_as_agree_with_differs() -> None:
    for words, verdict in (
        ({}, "agreed"),
        ({"b": b"same"}, "agreed"),
        ({"b": b"other"}, "differs"),
        ({"b": b"other", "c": b"same"}, "others differ"),
        ({"b": b"other", "c": b"other"}, "differs"),
        ({"b": b"other", "c": b"same", "d": b"other", "e": b"same"}, "others differ"),
    ):
        agreement = Agreement([passed(1)])
        for node, what in words.items():
            agreement.hear(node, passed(1, what))
        assert agreement.verdict() == verdict, words


def apply(
    *proposals: bytes, lookup: Nothing | None = None, cuts: Sequence[int] = ()
) -> tuple[Shared, bytes, list[Step]]:
    """Apply all; a new commit begins in front of each of `cuts`."""
    place, state, counters = Place(0, GENESIS, {}), Shared(), dict[str, int]()
    steps: list[Step] = []
    runs: list[list[Ordered]] = [[]]
    for offset, data in enumerate(proposals, 1):
        if offset in cuts:
            runs.append([])
        runs[-1].append(Ordered(offset, data))
    for some in runs:
        draft = Draft(place, lookup or Nothing(), "", 0)
        run = Run(draft, state, counters, 1, CODEC)
        steps += [run.add(one) for one in some]
        heads = {**place.heads, **{e.stream: Head(1, e.seq, e.chain) for e in draft.events}}
        place = Place(draft.position, draft.chain, heads)
        state = run.shared
        counters.update(run.counters)
    return state, place.chain, steps


def test_an_item_that_holds_nothing_changes_nothing() -> None:
    [step] = apply(encoded(proposal(1, Item())))[2]
    assert step.results == [Appended(0, ())]
