"""Looking up the links that checks are compared with: from memory, together, and never in the way."""

import pytest

from huahuo.eventstore.errors import Unavailable
from tests.support.drivers.rawclient import raw
from tests.support.worlds.wire import world


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
