"""One HTTP GET over asyncio, for small files of our own server: no redirects, no token."""

import asyncio
from urllib.parse import urlsplit

_HEAD_BYTES_MAX = 16 << 10
_OK = b"200"


class Unreachable(Exception):  # noqa: N818  says what happened
    """The file could not be fetched."""


async def get(url: str, path: str, *, bytes_max: int, timeout_s: float) -> bytes:
    """Fetch the file at `path` from the server of `url` (`ws://…`, `wss://…`).

    Raises:
        Unreachable: the file did not come within `timeout_s`, or is larger than `bytes_max`.
    """
    parts = urlsplit(url)
    secure = parts.scheme == "wss"
    host, port = parts.hostname or "", parts.port or (443 if secure else 80)
    named = parts.netloc.rpartition("@")[2]
    request = (
        f"GET {path} HTTP/1.1\r\nHost: {named}\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n"
    )
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(
                host, port, ssl=secure or None, limit=_HEAD_BYTES_MAX
            )
            try:
                writer.write(request.encode("ascii"))
                head = await reader.readuntil(b"\r\n\r\n")
                return await reader.readexactly(_length(head, bytes_max))
            finally:
                writer.transport.abort()
    except (OSError, TimeoutError, EOFError, ValueError, RuntimeError, asyncio.LimitOverrunError) as error:
        # RuntimeError: some loops raise it if the connection was reset before the first byte is written.
        raise Unreachable(f"{path} could not be fetched: {type(error).__name__}") from error


def _length(head: bytes, bytes_max: int) -> int:
    """The length of the body. Raises Unreachable if the body must not be read."""
    status, *lines = head.split(b"\r\n")
    if status.split(b" ")[1:2] != [_OK]:
        raise Unreachable(f"the server answered {status[:40].decode('ascii', 'replace')}")
    for line in lines:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length" and value.strip().isdigit():
            length = int(value)
            if length > bytes_max:
                raise Unreachable(f"a file of {length} bytes, at most {bytes_max}")
            return length
    raise Unreachable("the server did not say how long the file is")
