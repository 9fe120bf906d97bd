"""What a lone log says of itself, and what a bad listener, hearer, number or receipt does to it: nothing."""

import pytest

from huahuo.eventstore.core.reader import COMPACTED, Ledger, Receipt, read_receipt
from huahuo.eventstore.errors import Damaged
from huahuo.eventstore.model import StoredEvent, Tombstone
from tests.support.worlds.logs import MemoryEngine, looped, opened


@looped
async def test_a_lone_log_has_no_incarnation_no_others_and_needs_no_reservation() -> None:
    async with opened(MemoryEngine()) as log:
        assert (log.incarnation, log.living()) == ("", frozenset())
        await log.reserve("order", 10)
        assert log.take("order", 3) == 1
        assert log.take("order") == 4


@looped
async def test_no_numbers_can_be_taken() -> None:
    async with opened(MemoryEngine()) as log:
        with pytest.raises(ValueError, match="cannot take 0 numbers"):
            log.take("order", 0)


def stone(position: int) -> Tombstone:
    return Tombstone(position, "user/1", position, b"l" * 32)


def receipt(*ranges: tuple[int, int]) -> Receipt:
    return Receipt(ranges=list(ranges), digest="not theirs")


@pytest.mark.parametrize(
    "body",
    [b"{", b'{"ranges":[],"digest":"\xff"}', b'{"more":' + b"[" * 200_000],
    ids=["cut off", "no UTF-8", "endless"],
)
def test_a_receipt_that_cannot_be_read_is_damage_at_its_place(body: bytes) -> None:
    bad = StoredEvent(7, "audit", 1, COMPACTED, body, 1, 0, "", "", "", 0, "", b"")
    with pytest.raises(Damaged, match="7"):
        read_receipt(bad)


def test_an_event_that_no_receipt_vouches_for_is_damage() -> None:
    with pytest.raises(Damaged, match="no receipt vouches"):
        Ledger([]).take(stone(3))


def test_a_covered_place_without_its_tombstone_is_damage() -> None:
    ledger = Ledger([receipt((2, 3))])
    ledger.take(stone(2))
    with pytest.raises(Damaged, match="its tombstone is missing"):
        ledger.take(stone(4))
    with pytest.raises(Damaged, match="its tombstone is missing"):
        Ledger([receipt((2, 3))]).finish()


def test_tombstones_that_are_not_those_of_their_receipt_are_damage() -> None:
    ledger = Ledger([receipt((2, 1))])
    ledger.take(stone(2))
    with pytest.raises(Damaged, match="not those of their receipt"):
        ledger.finish()
