"""The hash chain and blobs: which changes they notice."""

import msgspec
import pytest
import zstandard

from huahuo.eventstore.blobs import unpack
from huahuo.eventstore.core.chain import GENESIS, check, relink
from huahuo.eventstore.core.seal import pack
from huahuo.eventstore.errors import Damaged, EventStoreError
from huahuo.eventstore.model import StoredEvent


def history(count: int) -> list[StoredEvent]:
    events: list[StoredEvent] = []
    chain = GENESIS
    for n in range(1, count + 1):
        bare = StoredEvent(n, "a", n, "t", b"%d" % n, 1, n, "e", "user/1", "c", 0, "b", b"")
        chain = relink(chain, bare)
        events.append(msgspec.structs.replace(bare, chain=chain))
    return events


@pytest.mark.parametrize(
    "change",
    [
        {"stream": "b"}, {"type": "u"}, {"body": b"x"}, {"version": 2}, {"ts_ms": 0}, {"entity": "f"},
        {"principal": "user/2"}, {"command_id": "d"}, {"cause": 1}, {"build": "c"}, {"chain": bytes(32)},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_a_change_of_any_field_is_found_at_its_position(change: dict[str, object]) -> None:
    events = history(20)
    events[7] = msgspec.structs.replace(events[7], **change)
    with pytest.raises(Damaged) as caught:
        check(GENESIS, 0, {}, events)
    assert caught.value.position == 8


def test_a_missing_event_is_found_at_its_position() -> None:
    events = history(20)
    del events[7]
    with pytest.raises(Damaged) as caught:
        check(GENESIS, 0, {}, events)
    assert caught.value.position == 8


def test_a_seq_that_jumps_is_found() -> None:
    bare = StoredEvent(2, "a", 3, "t", b"", 1, 0, "", "", "", 0, "b", b"")
    [first] = history(1)
    jumped = msgspec.structs.replace(bare, chain=relink(first.chain, bare))
    with pytest.raises(Damaged, match="from seq 1 to 3"):
        check(GENESIS, 0, {}, [first, jumped])


def test_a_blob_is_packed_into_the_same_bytes_whatever_was_packed_before_it() -> None:
    contents = [b"mail %d " % n * n for n in (1, 900, 20, 40_000, 3)]
    alone = [zstandard.ZstdCompressor(level=3).compress(data) for data in contents]

    assert [pack(data) for data in contents] == alone
    assert [pack(data) for data in reversed(contents)] == alone[::-1]


def test_a_blob_that_would_unfold_beyond_the_limit_is_refused() -> None:
    with pytest.raises(EventStoreError, match="larger"):
        unpack(zstandard.compress(bytes(2_000_000)), bytes_max=1_000_000)


@pytest.mark.parametrize("data", [b"", b"not zstd", zstandard.compress(b"x" * 1000)[:-3]])
def test_a_blob_that_is_not_readable_is_an_error(data: bytes) -> None:
    with pytest.raises(EventStoreError, match="readable"):
        unpack(data)
