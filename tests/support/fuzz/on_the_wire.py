"""What sockets bring before a message is one: frames, handshakes, requests, proposals. See `targets`."""

import contextlib
from typing import Final

import h11
from websockets.datastructures import Headers
from websockets.frames import Opcode
from websockets.http11 import Request
from websockets.protocol import OPEN, Protocol, Side
from websockets.streams import StreamReader
from websockets.utils import accept_key

from huahuo.eventstore.core.storage_port import Passed
from huahuo.eventstore.errors import WrongKey
from huahuo.eventstore.replicated import proposal
from huahuo.eventstore.replicated.proposal import MAC_BYTES, Codec, Item, Proposal, encode_item
from huahuo.transport.http import messages
from huahuo.transport.wire import frame_reader
from huahuo.transport.wire.lobby import understood
from tests.support.fuzz.sockets import as_frames

_BYTES_MAX: Final = 1 << 20

HANDSHAKE: Final = (
    b"GET /?v=1 HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: huahuo.v1.zstd, huahuo.v1\r\nOrigin: https://app.example.com\r\n\r\n"
)
REQUESTS: Final = (
    b'POST /commands/note HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n{"text":"x"}',
    b"GET /streams/system?after=3 HTTP/1.1\r\nHost: a\r\nAccept-Language: zh,en;q=0.5\r\n\r\n",
    b"POST /publish HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
)


def frames(data: bytes) -> None:
    """The short ways read what the library reads, and leave the rest to it."""
    library = Protocol(Side.SERVER, state=OPEN, max_size=_BYTES_MAX)
    library.receive_data(data)
    read = [one for one in library.events_received() if not isinstance(one, Request)]
    texts, end, _begun = frame_reader.texts_in(data)
    assert len(read) >= len(texts)
    for text, frame in zip(texts, read, strict=False):
        assert (frame.opcode, frame.fin, frame.data) == (Opcode.TEXT, True, text)  # type: ignore[union-attr]
    assert end <= len(data)
    assert frame_reader.texts_in(as_frames(texts))[0] == texts
    alone = frame_reader.short_text(data)
    assert alone is None or (texts, end) == ([alone], len(data))


def handshakes(data: bytes) -> None:
    """What the short way takes for a handshake is one for the library too, and asks for the same."""
    asked = understood(data)
    if asked is None:
        return
    reader = StreamReader()
    reader.feed_data(data)
    parsing = Request.parse(reader.read_line)
    try:
        next(parsing)
        raise AssertionError("the library waits for more of this head")
    except StopIteration as done:
        headers: Headers = done.value.headers
    assert headers.get_all("Sec-WebSocket-Key") == [headers["Sec-WebSocket-Key"]]
    assert asked.accept == accept_key(headers["Sec-WebSocket-Key"].strip(" \t"))
    assert list(asked.origins) == [value.strip(" \t") for value in headers.get_all("Origin")]
    assert list(asked.hosts) == [value.strip(" \t") for value in headers.get_all("Host")]
    assert not {name.lower() for name in headers} & {"content-length", "transfer-encoding"}


def requests(data: bytes) -> None:
    """A whole connection of plain HTTP, as the service reads it. Raises h11.RemoteProtocolError."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=messages.HEAD_BYTES_MAX)
    connection.receive_data(data)
    request: h11.Request | None = None
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
            return
        if isinstance(event, h11.Request):
            request = event
            announced = messages.body_bytes(request)
            assert announced is None or announced >= 0
            assert messages.has_body(request) == (announced != 0), request.headers
            messages.refusal_of(data)
            messages.languages(request)


_KEY: Final = b"k" * 32
_codec: Final = Codec(_KEY, "log")
_HEAD: Final = Proposal(
    node="a",
    epoch=1,
    token="t",
    number=1,
    clock_ms=1,
    advance_ms=0,
    build="b",
    seen=Passed(1, b"c", b"d"),
    items=[],
)


def proposals(data: bytes) -> None:
    """As a node with the right keys could write it, and as anybody could. Raises NewerFormat."""
    assert _codec.decode(data) is None
    whole = _codec.encode(_HEAD, ())
    signed = whole[:1] + _codec._mac_of(data) + data  # noqa: SLF001  no stranger can make it
    _codec.decode(signed)


BORN: Final = proposal.dump_birth(proposal.Birth(1, "log"), _KEY)[1 + MAC_BYTES :]


def births(data: bytes) -> None:
    """The first proposal of an ordered log, which anybody can write who can write there."""
    with contextlib.suppress(WrongKey):
        proposal.load_birth(b"b" + data, _KEY)


BODY: Final = _codec.encode(_HEAD, [encode_item(Item())])[1 + MAC_BYTES :]
"""What is signed of a proposal."""
