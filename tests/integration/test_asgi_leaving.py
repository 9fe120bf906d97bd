"""A client that leaves inside an ASGI server leaves nothing behind there, and no fault in its log."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response

from huahuo import Huahuo
from huahuo.transport.protocol.flow_control import TransportSettings
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


async def test_a_request_whose_client_leaves_before_its_answer_is_no_fault_to_middleware_of_the_host(
    tmp_path: Path,
) -> None:
    app = Huahuo(data=tmp_path / "data")
    api = FastAPI()
    api.mount("/live", app.asgi)

    @api.middleware("http")
    async def any_of_the_host(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        return await call_next(request)

    async with asyncio.timeout(WITHIN_S), app.lifespan():
        bearer = f"Bearer {app.token(42, admin=True)}".encode()
        scope = {
            "type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "root_path": "",
            "path": "/live/streams/user/42", "query_string": b"wait=60",
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
            "headers": [(b"host", b"localhost"), (b"authorization", bearer)],
        }  # fmt: skip
        messages: list[MutableMapping[str, Any]] = [
            {"type": "http.request", "body": b"", "more_body": False},
            {"type": "http.disconnect"},
        ]

        async def receive() -> MutableMapping[str, Any]:
            return messages.pop(0) if len(messages) > 1 else messages[0]

        async def send(message: MutableMapping[str, Any]) -> None:
            """Nobody is there."""

        await api(scope, receive, send)
