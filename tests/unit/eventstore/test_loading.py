"""What an opening keeps in memory of each stream."""

import asyncio
from pathlib import Path

from huahuo.eventstore.model import Append, Head, NewEvent
from huahuo.eventstore.sqlite.store import SqliteStore
from tests.support.worlds.spoilt import opened


def test_short_streams_of_one_length_share_their_head(tmp_path: Path) -> None:
    async def test() -> None:
        log = await opened(tmp_path)
        streams = [f"user/{number}" for number in range(1_000)]
        for _ in range(2):
            events = tuple(NewEvent(stream, "said", b"{}") for stream in streams)
            await log.append(Append(ts_ms=0, events=events))
        await log.append(Append(ts_ms=0, events=(NewEvent("last", "said", b"{}"),)))
        await log.close()
        log = await opened(tmp_path)
        try:
            assert isinstance(log.store, SqliteStore)
            heads = log.store.load().heads
            assert {heads[stream] for stream in streams} == {Head(1, 2)}
            assert len({id(heads[stream]) for stream in streams}) == 1
            assert heads["last"] == Head(1, 1)
        finally:
            await log.close()

    asyncio.run(test())
