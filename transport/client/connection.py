"""What the client's connection needs: its address and token, and a WebSocket with the protocol's settings.

The socket is closed with a deadline.

`Receiver` unpacks the binary messages (PROTOCOL 7). The dictionary that the server announced is fetched
for the first message that needs it, once for all connections, with one GET over asyncio: no redirects, no
token. If a message does not unpack within its bounds, the connection ends, and from the next one on the
client offers the protocol without compression.
"""

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable, Sequence
from inspect import isawaitable
from typing import Final, Literal
from urllib.parse import urlsplit

import h11
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from huahuo.eventstore.zstd_frames import (
    DICTIONARY_BYTES_MAX,
    BadDictionary,
    BadFrame,
    Decompressor,
    Dictionary,
)
from huahuo.transport.client.model import ProtocolViolation
from huahuo.transport.protocol.kinds import DictionaryPlace

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


async def close_socket(socket: ClientConnection) -> None:
    """Close with a deadline, so that a peer that does not read cannot delay it."""
    try:
        async with asyncio.timeout(CLOSE_WITHIN_S):
            await socket.close()
    except TimeoutError:
        pass
    finally:
        socket.transport.abort()


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


_DICTIONARIES_MAX = 4
_PATH = re.compile(r"/(?!/)[!-~]*")


class Receiver:
    """Receives from one server, over any number of connections. `offered`: the subprotocols to offer."""

    def __init__(self, url: str, compression: bool, *, timeout_s: float) -> None:
        self.offered = [ZSTD_SUBPROTOCOL, SUBPROTOCOL] if compression else [SUBPROTOCOL]
        self._url = url
        self._timeout_s = timeout_s
        self._known: dict[int, Decompressor] = {}

    async def receive(self, socket: ClientConnection, place: DictionaryPlace | None) -> str | bytes:
        """The next message. `place`: the dictionary of binary messages.

        Raises:
            ConnectionClosed: the connection ended.
            ProtocolViolation: the message does not unpack, or compression was not agreed upon.
        """
        raw = await socket.recv()
        if isinstance(raw, str):
            return raw
        if socket.subprotocol != ZSTD_SUBPROTOCOL:
            raise ProtocolViolation("a binary message without compression")
        try:
            return await self._unpack(raw, place)
        except (BadFrame, BadDictionary, Unreachable) as error:
            self.offered = [SUBPROTOCOL]
            raise ProtocolViolation(f"a compressed message cannot be read: {error}") from error

    async def _unpack(self, frame: bytes, place: DictionaryPlace | None) -> bytes:
        number = 0 if place is None else place.id
        if number not in self._known:
            dictionary = None if place is None else await self._fetch(place)
            if len(self._known) >= _DICTIONARIES_MAX:
                del self._known[next(iter(self._known))]
            self._known[number] = Decompressor(dictionary, output_bytes_max=MESSAGE_BYTES_MAX)
        return self._known[number].decompress(frame)

    async def _fetch(self, place: DictionaryPlace) -> Dictionary:
        if not _PATH.fullmatch(place.url):
            raise BadDictionary("its address is not a path on the server")
        server = urlsplit(self._url)
        url = f"{'https' if server.scheme == 'wss' else 'http'}://{server.netloc}{place.url}"
        data = await fetch(url, bytes_max=DICTIONARY_BYTES_MAX, timeout_s=self._timeout_s)
        dictionary = Dictionary.of(data)
        if dictionary.id != place.id:
            raise BadDictionary(f"the dictionary {dictionary.id} instead of {place.id}")
        return dictionary


type TokenSource = Callable[[], str | Awaitable[str]]


class Tokens:
    """The application's token: a fixed one, or what its function returns.

    Raises:
        ValueError: both were given, or neither.
    """

    def __init__(self, token: str | None, source: TokenSource | None) -> None:
        if (token is None) == (source is None):
            raise ValueError("give either `token` or `get_token`")
        self.token = token
        self._source = source

    @property
    def renewable(self) -> bool:
        """Whether another token can be had."""
        return self._source is not None

    async def renew(self) -> bool:
        """Get a token from the application. Returns whether it is a new one. Raises as its function."""
        if self._source is None:
            return False
        before, given = self.token, self._source()
        self.token = await given if isawaitable(given) else given
        return self.token != before
