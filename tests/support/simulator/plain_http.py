"""HTTP/1.1 as a program without a library speaks it: one request a connection, its answer as it comes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import NamedTuple

from tests.support.simulator.node import HOST, PORT

_HEAD_BYTES_MAX = 16 << 10


class Broken(Exception):  # noqa: N818  the way to the server, or what came by it
    """The answer ended where it may not end."""


class Answer(NamedTuple):
    """The head of an answer; `parts` gives its body as it comes."""

    status: int
    headers: Mapping[str, str]
    parts: AsyncIterator[bytes]


@contextlib.asynccontextmanager
async def asked(target: str, headers: Mapping[str, str], *, within_s: float) -> AsyncIterator[Answer]:
    """Send a GET. Raises OSError, TimeoutError or Broken; so do the parts of the body."""
    async with asyncio.timeout(within_s):
        reader, writer = await asyncio.open_connection(HOST, PORT)
    if writer.is_closing():  # it was reset before anything was asked, and simloop raises for such a write
        raise Broken("the connection was reset")
    try:
        lines = [f"GET {target} HTTP/1.1", f"Host: {HOST}:{PORT}", *(f"{k}: {v}" for k, v in headers.items())]
        writer.write("".join(f"{line}\r\n" for line in (*lines, "")).encode())
        async with asyncio.timeout(within_s):
            status, found = await _head(reader)
        yield Answer(status, found, _body(reader, found))
    finally:
        writer.transport.abort()


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        raise Broken("no head came") from None
    first, *rest = raw.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in rest if line)
    return int(first.split(" ")[1]), {name.lower(): value.strip() for name, _, value in pairs}


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
    try:
        if headers.get("transfer-encoding", "").lower() != "chunked":
            yield await reader.readexactly(int(headers.get("content-length", "0")))
            return
        while size := int(await reader.readuntil(b"\r\n"), 16):
            yield await reader.readexactly(size)
            await reader.readexactly(2)
    except (asyncio.IncompleteReadError, ValueError):
        raise Broken("the answer was cut off") from None
