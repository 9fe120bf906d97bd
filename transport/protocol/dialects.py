"""The dialects of PROTOCOL 3 and 8 as data, and which one a client's offer gets. Pure."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import msgspec

from huahuo.transport.protocol.codes import CloseCode

V1_SUBPROTOCOL = "huahuo.v1"
V1_ZSTD_SUBPROTOCOL = "huahuo.v1.zstd"
_OURS = "huahuo."


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """What differs between the kinds of client.

    `batched`: events travel as runs, with un-acked events bounded by the window; otherwise each
    event is a message of its own and the write buffer is the window. `closes` translates codes that
    this kind of client does not know. `silent_heartbeats` is how many heartbeats it may be silent.
    `compressed`: messages may come as binary frames (`huahuo.transport.protocol.compression`).
    """

    name: str
    batched: bool
    tells_heartbeat: bool
    silent_heartbeats: int
    compressed: bool = False
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
    closes=MappingProxyType({CloseCode.DRAINING: CloseCode.RESTART, CloseCode.SILENT: CloseCode.GOING_AWAY}),
)


class Negotiated(msgspec.Struct, frozen=True):
    """The subprotocol to answer with, and the dialect spoken (None: no version that we know)."""

    subprotocol: str | None
    dialect: Dialect | None


def negotiate(offered: Sequence[str], *, compression: bool) -> Negotiated:
    """Choose for a client's offer: the first that is spoken here. No `huahuo.*` in it: a classic client.

    `compression`: whether the compressed protocol is spoken.

    A version unknown here is echoed, since a browser that gets no subprotocol sees no close code.
    """
    for name in offered:
        dialect = _SPOKEN.get(name)
        if dialect is not None and (compression or not dialect.compressed):
            return Negotiated(name, dialect)
    unknown = next((name for name in offered if name.startswith(_OURS)), None)
    if unknown is not None:
        return Negotiated(unknown, None)
    return Negotiated(None, DOCUMENT)
