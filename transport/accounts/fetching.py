"""One HTTP GET of a small public file, within a deadline. No redirects, no cookies, no proxy."""

import asyncio
import ssl
from typing import Final
from urllib.parse import urlsplit

import h11

BODY_BYTES_MAX: Final = 256 << 10
_READ_BYTES: Final = 16 << 10
_OK: Final = 200
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


class Unreachable(Exception):  # noqa: N818  says what happened
    """The file could not be fetched. The text is for the log."""


def refuse_url(url: str) -> str:
    """Why keys may not be fetched from this address; "" if they may."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError if it is no number
    except ValueError:
        return "it is no address"
    if parts.scheme not in ("https", "http") or not parts.hostname or not url.isascii():
        return "it must begin with https://"
    if parts.username is not None or parts.fragment:
        return "it must have neither a user name nor a #"
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        return "http:// is for this machine only: on a network, anyone between could give keys of their own"
    return ""


async def fetch(url: str, timeout_s: float) -> bytes:
    """The file at `url`, of at most 256 KiB.

    Raises:
        Unreachable: it did not come within `timeout_s`, or the answer is not a plain 200.
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
                return await _exchanged(reader, writer, parts.netloc, target)
            finally:
                writer.transport.abort()
    except TimeoutError:
        raise Unreachable(f"it did not come within {timeout_s:g} s") from None
    except (OSError, EOFError, h11.ProtocolError, ValueError) as error:
        raise Unreachable(f"{type(error).__name__}: {error}") from error


async def _exchanged(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, target: str
) -> bytes:
    http = h11.Connection(h11.CLIENT)
    headers = [("Host", host), ("Accept", "application/json"), ("Accept-Encoding", "identity")]
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
            if len(body) > BODY_BYTES_MAX:
                raise Unreachable(f"it is longer than {BODY_BYTES_MAX} bytes")
        elif isinstance(event, h11.EndOfMessage):
            return bytes(body)
        elif not isinstance(event, h11.InformationalResponse):
            raise Unreachable("the server closed the connection before the end")
