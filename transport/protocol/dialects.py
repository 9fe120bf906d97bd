"""The dialects of PROTOCOL 3 and 8 as data, and the choice of one for a client's offer. Pure."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import msgspec

from huahuo.transport.protocol.codes import CloseCode

V1_SUBPROTOCOL = "huahuo.v1"
V1_ZSTD_SUBPROTOCOL = "huahuo.v1.zstd"
_OURS = "huahuo."


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """The differences between kinds of client.

    `batched`: events are sent as runs, and the window bounds the un-acked events. Otherwise each event is its
    own message, and the write buffer is the only bound. `closes` translates codes that this kind of client
    does not know. `silent_heartbeats`: the client may be silent for this many heartbeats. `compressed`:
    messages may be binary frames (`huahuo.transport.protocol.compression`). `event_texts`: events are framed
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
