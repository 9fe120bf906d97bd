"""The first proposal of an ordered log: it gives the log its id, and names the master key by a mark. Pure.

    b"b" || BLAKE2b-128 of the rest || MessagePack([format, log id, mark of the master key])

Every node that finds an empty ordered log proposes one; the first that is ordered holds, all others are
ignored.
"""

from hashlib import blake2b

import msgspec

FORMAT = 1
_MAGIC = b"b"
_SUM_BYTES = 16


class Birth(msgspec.Struct, frozen=True, array_like=True):
    """See the module."""

    format: int
    log_id: str
    mark: bytes


def dump(birth: Birth) -> bytes:
    """As it is proposed."""
    body = msgspec.msgpack.encode(birth)
    return _MAGIC + _sum(body) + body


def load(proposal: bytes) -> Birth | None:
    """The birth in a proposal, None if it is none or damaged."""
    body = proposal[1 + _SUM_BYTES :]
    if proposal[:1] != _MAGIC or proposal[1 : 1 + _SUM_BYTES] != _sum(body):
        return None
    try:
        return msgspec.msgpack.decode(body, type=Birth)
    except msgspec.MsgspecError:
        return None


def _sum(body: bytes) -> bytes:
    return blake2b(body, digest_size=_SUM_BYTES).digest()
