"""A client that cannot reach its service does not wait in silence."""

import asyncio
import logging
import socket

from huahuo.transport.client import Client
from tests.support.patience import WITHIN_S


class Lines(logging.Handler):
    """Keeps the lines of a logger, and tells when there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.one = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())
        self.one.set()


async def test_a_service_that_does_not_run_is_told_with_its_address_and_the_reason() -> None:
    lines = Lines()
    logging.getLogger("huahuo.client").addHandler(lines)
    try:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # nobody listens there, and nobody else gets the port
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            async with asyncio.timeout(WITHIN_S), Client(f"http://{address}", token="x"):
                await lines.one.wait()
    finally:
        logging.getLogger("huahuo.client").removeHandler(lines)
    assert address in lines.texts[0]
    assert "ConnectionRefusedError" in lines.texts[0]
