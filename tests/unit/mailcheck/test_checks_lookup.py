"""Looking up the links that checks are compared with: from memory, together, and never in the way."""

import asyncio
from collections.abc import Sequence

import pytest

from huahuo.eventstore.errors import Unavailable
from huahuo.replay.feed import Feed
from tests.support.drivers.rawclient import raw
from tests.support.models.faulty_log import faulty_log, write
from tests.support.worlds.wire import world


async def test_places_that_many_ask_for_at_one_time_are_read_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = await faulty_log()
    await write(log, *["a"] * 40)
    reads: list[int] = []
    links = log.links

    async def counted(places: Sequence[tuple[str, int]]) -> list[bytes | None]:
        reads.append(len(places))
        return await links(places)

    monkeypatch.setattr(log, "links", counted)
    feed = Feed(log)
    found = await asyncio.gather(*(feed.links([("a", n), ("a", 40)]) for n in range(1, 40)))
    assert all(len(one) == 2 for one in found)
    assert sum(reads) == 40
    assert len(reads) <= 3
    await log.close()


async def test_a_client_whose_check_cannot_be_read_goes_on_as_without_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with world(tail_events_max=1) as server, raw(server.url, "huahuo.v1") as client:
        await server.append("user/42", "a", "b", "c")

        async def failing(_places: object) -> dict[tuple[str, int], bytes]:
            raise Unavailable("the disk is gone")

        monkeypatch.setattr(server.feed, "links", failing)
        resume = {
            "log": server.log.log_id,
            "cursors": {"user/42": 3},
            "checks": {"user/42": [1, "0" * 16]},
        }
        answer = await client.authenticate(server.token(), resume=resume)
        assert answer["streams"]["user/42"]["outcome"] == "resumed"
