"""A connection on the service's own port: what it reads is bounded whatever it waits for."""

import asyncio
from http import HTTPStatus
from typing import Any

import pytest

from huahuo.actors.plugins.words import Words
from huahuo.transport.http.messages import Answer
from huahuo.transport.http.native import LINGER_S, LINGER_SILENCE_S, HttpConnection
from huahuo.transport.session.outgoing import Speech

ASKED = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
REFUSED = b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"


class FullTransport(asyncio.Transport):
    """To a client that reads nothing: what is written stays in the buffer."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.reading = True
        self.full = asyncio.Event()
        self.connection: HttpConnection | None = None

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def write(self, data: Any) -> None:
        assert self.connection is not None
        self.connection.pause_writing()
        self.full.set()

    def pause_reading(self) -> None:
        self.reading = False


class Everything:
    """Stands for what a connection asks of its owner, of the API and of the server."""

    open_timeout_s = 10.0

    def __getattr__(self, name: str) -> Any:
        return self if name in ("server", "api", "wires", "ambient") else lambda *_: None

    async def site(self, _request: object) -> Answer:
        return Answer(HTTPStatus.OK, (), b"x" * 1_000_000)

    def speech(self, _preferred: object) -> Speech:
        return Speech(Words(), "en")

    def is_serving(self) -> bool:
        return True


async def test_nothing_more_is_read_while_an_answer_waits_for_its_client() -> None:
    owner: Any = Everything()
    transport = FullTransport()
    connection = HttpConnection(owner, transport, asyncio.get_running_loop().time() + 10)
    transport.connection = connection
    connection.data_received(ASKED)
    await transport.full.wait()
    read = 0
    while transport.reading and read < 64:
        connection.data_received(b"y" * 65_536)
        read += 1
    assert read < 64
    connection.connection_lost(None)


class RefusingTransport(FullTransport):
    """To a client that reads at once, and sends on behind its refused request."""

    aborted = False

    def write(self, data: Any) -> None:
        pass

    def resume_reading(self) -> None:
        self.reading = True

    def abort(self) -> None:
        self.aborted = True


def refused() -> tuple[HttpConnection, RefusingTransport]:
    owner: Any = Everything()
    transport = RefusingTransport()
    connection = HttpConnection(owner, transport, asyncio.get_running_loop().time() + 10)
    connection.data_received(REFUSED)
    return connection, transport


@pytest.mark.virtual_time
async def test_a_client_that_sends_on_behind_a_refusal_is_read_until_it_pauses() -> None:
    connection, transport = refused()
    for _ in range(10):
        connection.data_received(b"x" * 1000)
        await asyncio.sleep(0.9 * LINGER_SILENCE_S)
    assert not transport.aborted
    await asyncio.sleep(0.2 * LINGER_SILENCE_S)
    assert transport.aborted


@pytest.mark.virtual_time
async def test_a_client_that_never_ceases_to_send_behind_a_refusal_is_read_for_ten_seconds() -> None:
    connection, transport = refused()
    for _ in range(int(LINGER_S / 0.5) - 1):
        await asyncio.sleep(0.5)
        connection.data_received(b"x" * 1000)
    assert not transport.aborted
    await asyncio.sleep(0.6)
    assert transport.aborted
