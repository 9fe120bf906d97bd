"""Parts of the Python client: its address, jobs, and the fetch of a dictionary."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from huahuo.transport.accounts.issuer_keys import refuse_url
from huahuo.transport.client.connection import Unreachable, fetch, websocket_url
from huahuo.transport.client.model import Event
from huahuo.transport.client.subscription import Job, job_after


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("http://127.0.0.1:8765", "ws://127.0.0.1:8765"),
        ("127.0.0.1:8765", "ws://127.0.0.1:8765"),
        ("https://example.org/", "wss://example.org/"),
        ("http://example.org/live", "ws://example.org/live/ws"),
        ("https://example.org/a/b/live#x", "wss://example.org/a/b/live/ws"),
        ("http://example.org/live/", "ws://example.org/live/"),
        ("http://example.org/live/ws", "ws://example.org/live/ws"),
        ("http://example.org/socket?v=1", "ws://example.org/socket?v=1"),
        ("wss://example.org/socket", "wss://example.org/socket"),
    ],
)
def test_an_address_is_that_of_a_server_of_a_mount_or_of_a_socket(given: str, meant: str) -> None:
    assert websocket_url(given) == meant


RUNNING = Job("import", 40, "4 of 10", "running")


def event(type_: str, **data: Any) -> Event:
    return Event("job/1", 1, type_, {"type": type_, **data})


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (event("job_started", name="import"), Job("import", 40, "4 of 10", "running")),
        (event("job_progress", percent=50, message="5 of 10"), Job("import", 50, "5 of 10", "running")),
        (event("job_progress", percent=50, message=""), Job("import", 50, "4 of 10", "running")),
        (event("job_message", message="slow"), Job("import", 40, "slow", "running")),
        (event("job_cancel_requested", user=42), Job("import", 40, "4 of 10", "cancelling")),
        (
            event("job_ended", outcome="failed", error="ValueError", message=""),
            Job("import", 40, "4 of 10", "failed", "ValueError"),
        ),
        (event("skipped", first=1, reason="compacted"), RUNNING),
        (event("job_painted"), RUNNING),
    ],
    ids=lambda value: value.type if isinstance(value, Event) else value.status,
)
def test_an_event_changes_what_it_says(said: Event, shown: Job) -> None:
    assert job_after(RUNNING, said) == shown


BYTES_MAX = 1_000


@asynccontextmanager
async def serving(answer: bytes, *, then_hang: bool = False) -> AsyncIterator[str]:
    """A server that says this to every request."""
    heard = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        if then_hang:
            await heard.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys?realm=1"
    finally:
        heard.set()
        server.close()
        await server.wait_closed()


def said(status: str, body: bytes = b"{}", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


@pytest.mark.parametrize(
    "answer",
    [
        said("200 OK"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n{}",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + said("200 OK"),
    ],
)
async def test_a_plain_answer_is_read_however_it_is_framed(answer: bytes) -> None:
    async with serving(answer) as url:
        assert await fetch(url, bytes_max=BYTES_MAX, timeout_s=5) == b"{}"


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"hello\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000, b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    ],
)  # fmt: skip
async def test_what_is_no_whole_answer_is_refused(answer: bytes) -> None:
    async with serving(answer) as url:
        with pytest.raises(Unreachable):
            await fetch(url, bytes_max=BYTES_MAX, timeout_s=5)


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{"])
async def test_a_server_that_hangs_is_given_up_at_the_deadline(begun: bytes) -> None:
    async with serving(begun, then_hang=True) as url:
        with pytest.raises(Unreachable, match="did not come within"):
            await fetch(url, bytes_max=BYTES_MAX, timeout_s=0.1)


@pytest.mark.parametrize(
    "url", ["http://issuer.example/keys", "http://127.0.0.1.evil.example/", "http://10.0.0.1/keys", "ftp://x/keys",
            "file:///etc/passwd", "issuer.example/keys", "https://", "https://user:pass@issuer.example/",
            "https://issuer.example/#keys", "https://issuer.example:port/", "https://bücher.example/"],
)  # fmt: skip
def test_other_addresses_are_refused(url: str) -> None:
    assert refuse_url(url)
