"""The dialects of PROTOCOL 3 and 8, the choice of one, and the compressed one's frames. Pure.

A message is compressed once (PROTOCOL 7), however many connections it goes to: one compressor serves all.
The code that makes a message decides whether it may be compressed: runs of events, snapshots, and replies
whose command says so. The length of a compressed message reveals something of its content. So these are
never compressed:

* messages that can be requested again and again and hold a stranger's text together with a secret (mails,
  lists of mails): see `Action.compressible`,
* messages with the text of many users (the stream `log`).

The authentication is not compressed because the client has no dictionary yet.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import msgspec

from huahuo.eventstore.zstd_frames import Compressor, Dictionary
from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.protocol.frames import binary_frame, text_frame

V1_SUBPROTOCOL = "huahuo.v1"
V1_ZSTD_SUBPROTOCOL = "huahuo.v1.zstd"
_OURS = "huahuo."


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """The differences between kinds of client.

    `batched`: events are sent as runs, and the window bounds the un-acked events. Otherwise each event is its
    own message, and the write buffer is the only bound. `closes` translates codes that this kind of client
    does not know. `silent_heartbeats`: the client may be silent for this many heartbeats. `compressed`:
    messages may be binary frames (`huahuo.transport.protocol.dialects`). `event_texts`: events are framed
    as server-sent events. `own_streams`: a client begins with its user's own stream and `system`.
    `classic`: written against the original service, so its messages are Chinese.
    """

    name: str
    batched: bool
    tells_heartbeat: bool
    silent_heartbeats: int
    compressed: bool = False
    event_texts: bool = False
    own_streams: bool = True
    classic: bool = False
    closes: Mapping[CloseCode, CloseCode] = MappingProxyType({})

    def close_code(self, code: CloseCode) -> CloseCode:
        """The code that this kind of client is closed with."""
        return self.closes.get(code, code)


V1 = Dialect(name="v1", batched=True, tells_heartbeat=False, silent_heartbeats=2)

V1_ZSTD = Dialect(name="v1.zstd", batched=True, tells_heartbeat=False, silent_heartbeats=2, compressed=True)

_SPOKEN = MappingProxyType({V1_SUBPROTOCOL: V1, V1_ZSTD_SUBPROTOCOL: V1_ZSTD})

DOCUMENT = Dialect(
    name="document",
    batched=False,
    tells_heartbeat=True,
    silent_heartbeats=3,
    classic=True,
    closes=MappingProxyType({CloseCode.DRAINING: CloseCode.RESTART, CloseCode.SILENT: CloseCode.GOING_AWAY}),
)

_FOR_EVER = 1 << 30

SERVER_SENT = Dialect(
    name="sse",
    batched=False,
    tells_heartbeat=False,
    silent_heartbeats=_FOR_EVER,  # it cannot answer; the socket notices that nothing is read
    event_texts=True,
    own_streams=False,
)
"""The reader of one stream over HTTP (docs/http.md). Nobody can offer it in a WebSocket handshake."""


class Negotiated(msgspec.Struct, frozen=True):
    """The subprotocol to answer with, and the dialect (None: the client offers no version known here)."""

    subprotocol: str | None
    dialect: Dialect | None


def negotiate(offered: Sequence[str], *, compression: bool) -> Negotiated:
    """Choose the first offered protocol that is spoken here. A client that offers no `huahuo.*` is classic.

    `compression`: whether the compressed protocol is spoken.

    An unknown version is echoed, because a browser that gets no subprotocol never sees the close code.
    """
    for name in offered:
        dialect = _SPOKEN.get(name)
        if dialect is not None and (compression or not dialect.compressed):
            return Negotiated(name, dialect)
    unknown = next((name for name in offered if name.startswith(_OURS)), None)
    if unknown is not None:
        return Negotiated(unknown, None)
    return Negotiated(None, DOCUMENT)


LEVEL: Final = 3
"""Higher levels save 10 % of the bytes in runs and nothing in single events, at five times the cost."""
COMPRESSED_BYTES_MAX: Final = 4 << 20
"""Larger messages stay text, because compressing them would delay all connections."""


def dictionary_path(number: int) -> str:
    """The path at which a dictionary is served."""
    return f"/dictionary/{number}"


class Compression:
    """The compressed protocol's frames (PROTOCOL 7), server side: one compressor for all connections.

    `before` and `after`: total bytes before and after, each message counted once.
    """

    def __init__(self, dictionary: Dictionary | None) -> None:
        self._compressor = Compressor(dictionary, LEVEL)
        self._dictionary = dictionary
        self._apart: Compressor | None = None
        self.name = f"zstd/{dictionary.id if dictionary else 0}"
        """Frames of equal names are interchangeable."""
        self.before = 0
        self.after = 0

    def announced(self, root: str = "") -> dict[str, object] | None:
        """The member `dictionary` of `authentication_result`, served below `root`. None: there is none."""
        if self._dictionary is None:
            return None
        return {"id": self._dictionary.id, "url": root + dictionary_path(self._dictionary.id)}

    def frame(self, payload: bytes) -> bytes:
        """`payload` as a binary WebSocket frame, or as text if compression does not shrink it."""
        return self._frame(payload, self._compressor)

    def frame_apart(self, payload: bytes) -> bytes:
        """As `frame`, for one other thread at a time."""
        if self._apart is None:
            self._apart = Compressor(self._dictionary, LEVEL)
        return self._frame(payload, self._apart)

    def _frame(self, payload: bytes, compressor: Compressor) -> bytes:
        if len(payload) > COMPRESSED_BYTES_MAX:
            return text_frame(payload)
        packed = compressor.compress(payload)
        if len(packed) >= len(payload):
            return text_frame(payload)
        self.before += len(payload)
        self.after += len(packed)
        return binary_frame(packed)
