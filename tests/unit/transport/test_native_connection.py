"""A connection on the service's own port: what it reads is bounded whatever it waits for."""

import asyncio
from http import HTTPStatus
from typing import Any

from huahuo.actors.plugins.words import Words
from huahuo.transport.http.messages import Answer
from huahuo.transport.http.native_connection import HttpConnection
from huahuo.transport.session.speech import Speech

ASKED = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


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
        return self if name in ("server", "api") else lambda *_: None

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
