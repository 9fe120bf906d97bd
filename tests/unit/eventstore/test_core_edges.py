"""What a lone log says of itself, and what a bad listener, hearer, number or receipt does to it: nothing."""

import pytest

from huahuo.eventstore.core.reader import COMPACTED, read_receipt
from huahuo.eventstore.errors import Damaged
from huahuo.eventstore.model import StoredEvent
from tests.support.worlds.logs import MemoryEngine, looped, opened


@looped
async def test_no_numbers_can_be_taken() -> None:
    async with opened(MemoryEngine()) as log:
        with pytest.raises(ValueError, match="cannot take 0 numbers"):
            log.take("order", 0)


@pytest.mark.parametrize(
    "body",
    [b"{", b'{"ranges":[],"digest":"\xff"}', b'{"more":' + b"[" * 200_000],
    ids=["cut off", "no UTF-8", "endless"],
)
def test_a_receipt_that_cannot_be_read_is_damage_at_its_place(body: bytes) -> None:
    bad = StoredEvent(7, "audit", 1, COMPACTED, body, 1, 0, "", "", "", 0, "", b"")
    with pytest.raises(Damaged, match="7"):
        read_receipt(bad)
