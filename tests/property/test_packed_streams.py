"""Packed names and heads answer as dictionaries do."""

from array import array
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huahuo.eventstore.core.storage_port import NOT_HERE, PackedHeads, PackedNames, Place
from huahuo.eventstore.model import Head

texts = st.text(max_size=5) | st.sampled_from(["user/1", "user/11", "匣子/7", "a", "aa"])
named = st.dictionaries(st.integers(1, 60) | st.integers(1, 1 << 40), texts, max_size=40).map(
    lambda names: dict(
        sorted({name: number for number, name in names.items()}.items(), key=lambda one: one[1])
    )
)
"""Numbers by name, in the order of the numbers."""


def packed_of(numbers: dict[str, int], step: int = 7) -> PackedNames:
    packed = PackedNames(len(numbers))
    names, places = list(numbers), list(numbers.values())
    for start in range(0, len(names), step):
        packed.add(places[start : start + step], names[start : start + step])
    return packed


@given(named, st.integers(1, 9), st.lists(texts | st.just("\ud800")), st.lists(st.integers(-2, 70)))
def test_packed_names_answer_as_two_dictionaries(
    numbers: dict[str, int], step: int, asked: list[str], looked_up: list[int]
) -> None:
    packed, names = packed_of(numbers, step), {number: name for name, number in numbers.items()}
    assert dict(packed.items()) == names
    assert list(packed.names()) == list(names.values())
    assert [packed.number_of(name) for name in [*numbers, *asked]] == [
        numbers.get(name) for name in [*numbers, *asked]
    ]
    assert [packed.get(number) for number in looked_up] == [names.get(number) for number in looked_up]
    assert [number in packed for number in looked_up] == [number in names for number in looked_up]


@given(named, st.integers(1, 9), st.text(max_size=2) | st.sampled_from(["user/", "a", "匣"]))
def test_names_are_found_by_their_beginning(numbers: dict[str, int], step: int, prefix: str) -> None:
    assert list(packed_of(numbers, step).starting_with(prefix)) == [
        (place, name) for place, name in enumerate(numbers) if name.startswith(prefix)
    ]


@given(named, st.randoms(use_true_random=False))
def test_only_the_kept_names_stay(numbers: dict[str, int], chance: Random) -> None:
    kept = bytearray(chance.choice((0, 1)) for _ in numbers)
    left = packed_of(numbers).only(kept)
    assert list(left.items()) == [
        (number, name) for (name, number), keep in zip(numbers.items(), kept, strict=True) if keep
    ]


def test_numbers_that_do_not_ascend_are_refused() -> None:
    packed = packed_of({"a": 5})
    for numbers in ([5], [4], [6, 6]):
        with pytest.raises(ValueError, match="ascend"):
            PackedNames.add(packed_of({"a": 5}), numbers, ["b"] * len(numbers))
    with pytest.raises(ValueError, match="room"):
        packed.add([6, 7, 8, 9], list("bcde"))


STREAMS = tuple(f"s{n}" for n in range(12))
steps = st.tuples(
    st.sampled_from(("write", "write", "link", "prune", "end", "ask")), st.sampled_from(STREAMS)
)


@given(st.lists(st.integers(0, 300), min_size=8, max_size=8), st.lists(steps, max_size=60))
def test_heads_that_are_packed_and_unpacked_answer_as_a_dictionary(
    lengths: list[int], done: list[tuple[str, str]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huahuo.eventstore.core.storage_port.UNPACKED_MAX", 2)
        names = packed_of({name: n for n, name in enumerate(STREAMS[:8], 1)})
        seqs = array("I", [NOT_HERE, *lengths[1:]])
        place = Place(0, b"", {"s0": Head(5, 9, b"link")}, PackedHeads(names, seqs))
        model = {"s0": Head(5, 9)} | {name: Head(1, lengths[n]) for n, name in enumerate(STREAMS[1:8], 1)}
        for what, stream in done:
            head = place.unpack(stream) if what != "ask" else place.head(stream)
            known = model.get(stream)
            assert (head and (head.first, head.seq)) == (known and (known.first, known.seq))
            if what == "write":
                first, seq = (known.first, known.seq) if known else (1, 0)
                place.heads[stream] = Head(first, seq + 1, b"link")
                model[stream] = Head(first, seq + 1)
            elif what == "prune" and known:
                place.heads[stream] = Head(known.seq, known.seq)
                model[stream] = Head(known.seq, known.seq)
            elif what == "end":
                place.end(stream)
                model.pop(stream, None)
            if what != "link":  # a reader fills one in while a commit runs
                place.pack()
                assert len(place.unpacked) <= 2
            assert place.count == len(model)
            assert place.streams("s") == {name for name, head in model.items() if head.seq}
