"""The Python client's WebSocket: opened with the protocol's settings, closed with a deadline."""

import asyncio
from collections.abc import Sequence
from typing import Literal, Protocol
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

SUBPROTOCOL = "huahuo.v1"
ZSTD_SUBPROTOCOL = "huahuo.v1.zstd"
MESSAGE_BYTES_MAX = 17 * 1024 * 1024
"""Above the 16 MiB of a snapshot (PROTOCOL 4)."""
CLOSE_WITHIN_S = 2.0


def websocket_url(url: str) -> str:
    """`http://host:port`, `https://…`, `ws://…`, `wss://…` or `host:port` as a WebSocket URL.

    `http://host:port/live` names the place where an application is mounted, as for `Publisher`: its WebSocket
    is `/live/ws`. An address with another scheme, or with a path that ends in a slash, is taken as it is.

    Raises:
        ValueError: another scheme, no host, no port where there is no scheme, or a port that is no number.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "ws", url
    known = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
    if scheme.lower() not in known or not _is_place(rest, port_needed=not separator):
        raise ValueError(f"not an address of a huahuo server: {url!r}; write http://HOST:PORT or HOST:PORT")
    place = rest.split("#")[0]
    path = urlsplit(f"//{place}").path
    if scheme.lower() in ("http", "https") and path.rpartition("/")[2] not in ("", "ws") and "?" not in place:
        place += "/ws"
    return f"{known[scheme.lower()]}://{place}"


def _is_place(rest: str, *, port_needed: bool) -> bool:
    """Whether `HOST:PORT/…` has a host and a port that can be meant. Without a scheme, a word is no host."""
    try:
        parts = urlsplit(f"//{rest}")
        port = parts.port
    except ValueError:
        return False
    return bool(parts.hostname) and not any(map(str.isspace, rest)) and not (port_needed and port is None)


class _Connect(connect):
    def process_redirect(self, exc: Exception) -> Exception | str:
        """Never follow a redirect: the token is only for the server of the URL."""
        return exc


async def open_socket(
    url: str,
    offered: Sequence[str],
    *,
    timeout_s: float,
    proxy: str | Literal[True] | None = None,
) -> ClientConnection:
    """Connect once, offering these subprotocols.

    Raises:
        OSError, TimeoutError, WebSocketException: the connection failed.
    """
    return await _Connect(
        url,
        subprotocols=[Subprotocol(name) for name in offered],
        compression=None,
        max_size=MESSAGE_BYTES_MAX,
        ping_interval=None,  # the session has its own heartbeat
        open_timeout=timeout_s,
        close_timeout=CLOSE_WITHIN_S,
        proxy=proxy,
    )


class _Aborted(Protocol):
    def abort(self) -> None: ...


class Closable(Protocol):
    """A socket, as far as it is closed."""

    @property
    def transport(self) -> _Aborted:
        """What to abort."""
        ...

    async def close(self) -> None:
        """Close, which may take as long as the peer likes."""
        ...


async def close_socket(socket: Closable) -> None:
    """Close with a deadline, so that a peer that does not read cannot delay it."""
    try:
        async with asyncio.timeout(CLOSE_WITHIN_S):
            await socket.close()
    except TimeoutError:
        pass
    finally:
        socket.transport.abort()
