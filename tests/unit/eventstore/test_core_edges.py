"""What a lone log says of itself, and what a bad listener, hearer, number or receipt does to it: nothing."""

from typing import Any

import pytest

from huahuo.eventstore.core.reader import COMPACTED, Ledger, Receipt, read_receipt
from huahuo.eventstore.errors import Closed, Damaged
from huahuo.eventstore.model import StoredEvent, Tombstone
from tests.support.worlds.logs import MemoryEngine, append, event, looped, opened


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


@looped
async def test_who_listens_no_more_may_say_so_twice() -> None:
    async with opened(MemoryEngine()) as log:
        heard: list[Any] = []
        forget = log.listen(heard.append)
        forget()
        forget()
        await log.append(append(event()))
        assert heard == []


class BadHearer:
    def heard(self, _told: Any) -> None:
        raise ZeroDivisionError


@looped
async def test_a_hearer_that_raises_costs_nobody_else_an_outcome() -> None:
    async with opened(MemoryEngine()) as log:
        log.submit_for(BadHearer(), "about", append(event()))
        await log.append(append(event()))
        assert log.position == 2


@looped
async def test_what_waits_is_bounded_and_counted() -> None:
    async with opened(MemoryEngine()) as log:
        log.bound_queue(bytes_per_user=1000, bytes_max=2000)
        log.bound_reads(waiting_per_user=1, waiting_max=2)
        assert (log.queue_bytes, log.appends_refused, log.reads_waiting, log.reads_refused) == (0, 0, 0, 0)
        await log.append(append(event("user/1"), event("user/2")))
        assert log.streams_in_memory >= 2


@looped
async def test_a_closed_log_says_so_to_whoever_appends() -> None:
    log = await MemoryEngine().open()
    await log.close()
    with pytest.raises(Closed):
        await log.append(append(event()))


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
