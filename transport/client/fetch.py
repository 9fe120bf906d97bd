"""One HTTP GET of a small file, within a deadline. No redirects, no cookies, no proxy."""

import asyncio
import ssl
from typing import Final
from urllib.parse import urlsplit

import h11

_READ_BYTES: Final = 16 << 10
_OK: Final = 200


class Unreachable(Exception):  # noqa: N818  says what happened
    """The file could not be fetched. The text is for the log."""


async def fetch(url: str, *, bytes_max: int, timeout_s: float) -> bytes:
    """The file at `url` (`http://…`, `https://…`).

    Raises:
        Unreachable: it did not come within `timeout_s`, the answer is not a plain 200, or it is longer than
            `bytes_max`.
    """
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    context = ssl.create_default_context() if secure else None
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=context)
            try:
                host = parts.netloc.rpartition("@")[2]
                return await _exchanged(reader, writer, host, target, bytes_max)
            finally:
                writer.transport.abort()
    except TimeoutError:
        raise Unreachable(f"it did not come within {timeout_s:g} s") from None
    except (OSError, EOFError, h11.ProtocolError, ValueError, RuntimeError) as error:
        # RuntimeError: some loops raise it if the connection was reset before the first byte is written.
        raise Unreachable(f"{type(error).__name__}: {error}") from error


async def _exchanged(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, target: str, bytes_max: int
) -> bytes:
    http = h11.Connection(h11.CLIENT)
    headers = [("Host", host), ("Accept-Encoding", "identity")]
    asked = h11.Request(method="GET", target=target, headers=[*headers, ("Connection", "close")])
    writer.write((http.send(asked) or b"") + (http.send(h11.EndOfMessage()) or b""))
    body = bytearray()
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await reader.read(_READ_BYTES))
        elif isinstance(event, h11.Response):
            if event.status_code != _OK:
                raise Unreachable(f"the server answered {event.status_code}")
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > bytes_max:
                raise Unreachable(f"it is longer than {bytes_max} bytes")
        elif isinstance(event, h11.EndOfMessage):
            return bytes(body)
        elif not isinstance(event, h11.InformationalResponse):
            raise Unreachable("the server closed the connection before the end")
