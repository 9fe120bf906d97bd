"""What an ASGI server hands on of a request's head is bounded here, as some servers bound nothing."""

from pathlib import Path
from typing import Any

from huahuo import Huahuo

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
