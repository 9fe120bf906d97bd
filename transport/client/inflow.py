"""Receives the Python client's messages and unpacks the binary ones (PROTOCOL 7).

The dictionary that the server announced is fetched for the first message that needs it, once for all
connections. If a message does not unpack within its bounds, the connection ends, and from the next one on the
client offers the protocol without compression.
"""

import re
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection

from huahuo.eventstore.zstd.frames import (
    DICTIONARY_BYTES_MAX,
    BadDictionary,
    BadFrame,
    Decompressor,
    Dictionary,
)
from huahuo.transport.client.fetch import Unreachable, fetch
from huahuo.transport.client.model import ProtocolViolation
from huahuo.transport.client.socket import MESSAGE_BYTES_MAX, SUBPROTOCOL, ZSTD_SUBPROTOCOL
from huahuo.transport.protocol.kinds import DictionaryPlace

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
