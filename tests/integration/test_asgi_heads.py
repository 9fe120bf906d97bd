"""Inside an ASGI server: heads are bounded here, and a client that leaves leaves nothing behind."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response

from huahuo import Huahuo
from huahuo.transport.http import api
from huahuo.transport.protocol.flow_control import TransportSettings
from tests.support.drivers.rawclient import raw
from tests.support.patience import WITHIN_S
from tests.support.worlds.people import ALICE
from tests.support.worlds.wire import PLACE, world

SCOPE: dict[str, Any] = {
    "type": "http", "method": "GET", "path": "/readyz", "root_path": "", "query_string": b"",
    "client": ("127.0.0.1", 1),
}  # fmt: skip


async def answered(
    app: Huahuo, version: str, *headers: tuple[bytes, bytes]
) -> tuple[int, dict[bytes, bytes]]:
    said: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        said.append(message)

    scope = {**SCOPE, "http_version": version, "headers": [(b"host", b"x"), *headers]}
    await app.asgi(scope, receive, send)
    return said[0]["status"], dict(said[0]["headers"])


async def test_a_head_that_is_too_long_is_refused_and_its_connection_ends(tmp_path: Path) -> None:
    async with Huahuo(data=tmp_path / "data", port=0) as app:
        assert (await answered(app, "1.1", (b"x", b"y" * (60 << 10))))[0] == 200
        status, headers = await answered(app, "1.1", (b"x", b"y" * (70 << 10)))
        assert (status, headers[b"connection"]) == (431, b"close")
        assert headers[b"content-type"] == b"application/problem+json"


async def test_http_2_has_no_header_that_ends_a_connection(tmp_path: Path) -> None:
    async with Huahuo(data=tmp_path / "data", port=0) as app:
        status, headers = await answered(app, "2", (b"x", b"y" * (70 << 10)))
        assert (status, headers.get(b"connection")) == (431, None)


async def test_what_is_sent_of_a_refused_body_is_taken_so_that_the_client_gets_the_answer(
    tmp_path: Path,
) -> None:
    happened: list[str] = []
    parts = iter([True, True, False])

    async def receive() -> dict[str, Any]:
        happened.append("taken")
        return {"type": "http.request", "body": b"x" * 1000, "more_body": next(parts)}

    async def send(message: Any) -> None:
        happened.append(
            "more" if message.get("more_body") else message["type"].removeprefix("http.response.")
        )

    head = [(b"host", b"x"), (b"content-length", b"3000")]
    scope = {**SCOPE, "method": "POST", "path": "/publish", "http_version": "1.1", "headers": head}
    async with Huahuo(data=tmp_path / "data", port=0) as app:
        await app.asgi(scope, receive, send)
    assert happened == ["start", "more", "taken", "taken", "taken", "body"]


async def test_nothing_is_waited_for_behind_a_body_that_came_whole_and_is_too_large(tmp_path: Path) -> None:
    async with Huahuo(data=tmp_path / "data", port=0) as app:
        headers = [(b"host", b"x"), (b"authorization", f"Bearer {app.token(7)}".encode())]
        headers.append((b"transfer-encoding", b"chunked"))
        said, taken = await posted(app, headers, False, body=b"x" * (2 << 20))
    assert (said[0]["status"], taken) == (413, 1)


async def test_a_body_that_http_2_announces_nowhere_takes_room_of_its_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "ROOM_S", 0.01)
    async with Huahuo(data=tmp_path / "data", port=0, memory_bytes_max=64 << 20) as app:
        headers = [(b"host", b"x"), (b"authorization", f"Bearer {app.token(7)}".encode())]
        scope = {**SCOPE, "method": "POST", "path": "/publish", "http_version": "2", "headers": headers}
        asked, said = asyncio.Event(), list[Any]()

        async def receive() -> Any:
            asked.set()
            return await asyncio.get_running_loop().create_future()

        async def send(message: Any) -> None:
            said.append(message)

        first = asyncio.ensure_future(app.asgi(scope, receive, send))
        await asked.wait()
        said_to_second, _ = await posted(app, headers, False, version="2")
        first.cancel()
    assert said == []
    assert said_to_second[0]["status"] == 503


async def posted(
    app: Huahuo,
    headers: list[tuple[bytes, bytes]],
    *more: bool,
    body: bytes = b"x" * 1000,
    version: str = "1.1",
) -> tuple[list[dict[str, Any]], int]:
    """What is answered to a body that comes in these parts, and how many of them were taken."""
    said: list[dict[str, Any]] = []
    parts = list(more)

    async def receive() -> dict[str, Any]:
        assert parts, "nothing more comes"
        return {"type": "http.request", "body": body, "more_body": parts.pop(0)}

    async def send(message: Any) -> None:
        said.append(message)

    scope = {**SCOPE, "method": "POST", "path": "/publish", "http_version": version, "headers": headers}
    await app.asgi(scope, receive, send)
    return said, len(more) - len(parts)


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
