"""A client that leaves a WebSocket inside an ASGI server leaves nothing behind there."""

import asyncio

from huahuo.transport.protocol.limits import TransportSettings
from tests.support.drivers.rawclient import raw
from tests.support.patience import WITHIN_S
from tests.support.worlds.people import ALICE
from tests.support.worlds.wire import PLACE, world

V1 = "huahuo.v1"
PATIENT = TransportSettings(close_timeout_s=100 * WITHIN_S)


async def test_its_task_does_not_wait_for_the_timeout_of_a_close_that_nobody_answers() -> None:
    token = PLACE.set("asgi")
    try:
        async with (
            asyncio.timeout(WITHIN_S),
            world(PATIENT) as w,
            raw(w.url, V1) as alice,
            raw(w.url, V1) as twice,
        ):
            await alice.authenticate(w.token(ALICE))
            await twice.authenticate(w.token(ALICE))
    finally:
        PLACE.reset(token)
