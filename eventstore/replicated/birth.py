"""The first proposal of an ordered log: it gives the log its id, and names the master key by a mark. Pure.

    b"b" || BLAKE2b-128 of the rest || MessagePack([format, log id, mark of the master key, events before it])
    b"B" || MAC (16 bytes)          || the same: the birth told again, so that all before it can be trimmed

Every node that finds an empty ordered log proposes one. The first in the order counts; all others are
ignored.
"""

import hmac
from hashlib import blake2b

import msgspec

FORMAT = 1
ADOPTED_FORMAT = 2
"""Of a log that was a single service's before: a version that does not know it must not begin it empty."""
NEWEST_FORMAT = ADOPTED_FORMAT
_MAGIC, _AGAIN = b"b", b"B"
_SUM_BYTES = 16


class Birth(msgspec.Struct, frozen=True, array_like=True):
    """See the module. `before`: events that the log had when it was adopted, which only copies hold."""

    format: int
    log_id: str
    mark: bytes
    before: int = 0


class _Plain(msgspec.Struct, frozen=True, array_like=True):
    """As versions wrote it that knew no adopted logs: the same bytes for the same log."""

    format: int
    log_id: str
    mark: bytes


def dump(birth: Birth) -> bytes:
    """As it is proposed first."""
    body = _body(birth)
    return _MAGIC + _sum(body) + body


def dump_again(birth: Birth, key: bytes) -> bytes:
    """As it is told again. `key`: that of the proposals."""
    body = _body(birth)
    return _AGAIN + _mac(body, key) + body


def load(proposal: bytes) -> Birth | None:
    """The birth in a first proposal, None if it is none or damaged."""
    body = proposal[1 + _SUM_BYTES :]
    if proposal[:1] != _MAGIC or proposal[1 : 1 + _SUM_BYTES] != _sum(body):
        return None
    return _read(body)


def load_again(proposal: bytes, key: bytes) -> tuple[Birth, bool] | None:
    """A birth that was told again, and whether it was by a node with this key. None if it is none."""
    if proposal[:1] != _AGAIN:
        return None
    body = proposal[1 + _SUM_BYTES :]
    born = _read(body)
    return (
        None if born is None else (born, hmac.compare_digest(proposal[1 : 1 + _SUM_BYTES], _mac(body, key)))
    )


def is_one(proposal: bytes) -> bool:
    """Whether it is a birth at all, told first or again."""
    return proposal[:1] in (_MAGIC, _AGAIN)


def _body(birth: Birth) -> bytes:
    plain = _Plain(birth.format, birth.log_id, birth.mark)
    return msgspec.msgpack.encode(birth if birth.before else plain)


def _read(body: bytes) -> Birth | None:
    try:
        return msgspec.msgpack.decode(body, type=Birth)
    except (msgspec.MsgspecError, UnicodeDecodeError):  # the latter: a text that is no UTF-8
        return None


def _sum(body: bytes) -> bytes:
    return blake2b(body, digest_size=_SUM_BYTES).digest()


def _mac(body: bytes, key: bytes) -> bytes:
    return blake2b(body, digest_size=_SUM_BYTES, key=key, person=b"huahuo birth").digest()
