"""A proposal: what one node wants to commit next, as data that every node applies alike. Pure.

    b"h" || MAC (16 bytes) || version (1 byte) || MessagePack

The MAC is keyed by the master key and covers the log's id, so every node alike tells a proposal that is
damaged, or of another log's node, from a good one, and ignores it. The version is read only after the MAC
fits, so no damage looks like a newer format.

The first proposal of an ordered log, its birth, gives the log its id, and names the master key by a mark:

    b"b" || BLAKE2b-128 of the rest || MessagePack([format, log id, mark of the master key, events before
    it]) b"B" || MAC (16 bytes)          || the same: the birth told again, so that all before it can be
    trimmed

Every node that finds an empty ordered log proposes one. The first in the order counts; all others are
ignored.
"""

import hmac
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

import msgspec

from huahuo.eventstore.core.storage_port import NOTHING, Carried, Passed, PutAcks
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.model import Append

VERSION = 1
"""The newest that this build reads and writes."""
OLDEST = 1
"""What every node writes until `huahuo cluster finalize` says that all know a newer one."""
MAC_BYTES = 16
HEAD_BYTES_MAX = 512
"""An upper bound of what a proposal holds besides its items."""
NODE_CHARS_MAX = 64
_MAGIC = b"h"


class Reserve(msgspec.Struct, frozen=True, array_like=True):
    """Give the proposer the next `count` numbers of a counter."""

    counter: str
    count: int


class Item(msgspec.Struct, frozen=True, array_like=True):
    """One thing to commit: an append with its secrets sealed and its blobs packed, acks, or a reservation."""

    append: Append | None = None
    carried: Carried = NOTHING
    acks: PutAcks | None = None
    reserve: Reserve | None = None


class Proposal(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """The items of one node that are applied together.

    `node`, `epoch` and `token` name the incarnation, `number` counts its proposals from 1. `clock_ms` is its
    wall clock, `advance_ms` what its monotonic clock moved since its last proposal. `seen`: what its replica
    had after the newest proposal that it has applied, so that nodes which differ find out.
    """

    node: str
    epoch: int
    token: str
    number: int
    clock_ms: int
    advance_ms: int
    build: str
    seen: Passed
    items: list[Item] = []


class _Packed(msgspec.Struct, frozen=True, array_like=True):
    """A proposal whose items are encoded already: the same bytes."""

    node: str
    epoch: int
    token: str
    number: int
    clock_ms: int
    advance_ms: int
    build: str
    seen: Passed
    items: list[msgspec.Raw]


class NewerFormat(EventStoreError):  # noqa: N818  the condition is the name
    """A newer version wrote the proposal: this node cannot apply it, and stops."""


def _plain(value: Any) -> Any:
    """What MessagePack cannot hold as it is: the read-only mapping of an append that expects nothing."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"no part of a proposal: {type(value).__name__}")


_encoder = msgspec.msgpack.Encoder(enc_hook=_plain)
_decode = msgspec.msgpack.Decoder(Proposal).decode


def encode_item(item: Item) -> msgspec.Raw:
    """The item as a part of a proposal.

    Raises:
        UnicodeEncodeError: a text holds a lone surrogate.
    """
    append = item.append
    if append is not None and (append.secrets or append.blobs):
        item = msgspec.structs.replace(item, append=msgspec.structs.replace(append, secrets=(), blobs=()))
    return msgspec.Raw(_encoder.encode(item))


class Codec:
    """Proposals of one log as bytes. `key`: 32 bytes that all its nodes derive from the master key."""

    def __init__(self, key: bytes, log_id: str, newest: int = VERSION) -> None:
        self.newest = newest
        self.writes = OLDEST
        """The version that is written. See `OLDEST`."""
        self._mac = blake2b(log_id.encode(), digest_size=MAC_BYTES, key=key, person=b"huahuo proposal")

    def encode(self, head: Proposal, items: Iterable[msgspec.Raw]) -> bytes:
        """The proposal `head` with these items."""
        packed = _Packed(
            head.node, head.epoch, head.token, head.number, head.clock_ms, head.advance_ms, head.build,
            head.seen, list(items),
        )  # fmt: skip
        body = bytes([self.writes]) + _encoder.encode(packed)
        return _MAGIC + self._mac_of(body) + body

    def decode(self, data: bytes) -> Proposal | None:
        """The proposal, None if it is damaged or of another log.

        Raises:
            NewerFormat: it is of a newer version.
        """
        mac, body = data[1 : 1 + MAC_BYTES], data[1 + MAC_BYTES :]
        if data[:1] != _MAGIC or not body or not hmac.compare_digest(mac, self._mac_of(body)):
            return None
        if body[0] > self.newest:
            raise NewerFormat(
                f"a node of this cluster writes proposals of format {body[0]}, and this version knows"
                f" {self.newest}: update this node"
            )
        try:
            return _decode(body[1:])
        except (msgspec.MsgspecError, UnicodeDecodeError):  # the latter: a text that is no UTF-8
            return None

    def _mac_of(self, body: bytes) -> bytes:
        mac = self._mac.copy()
        mac.update(body)
        return mac.digest()


BIRTH_FORMAT = 1
_BIRTH_MAGIC, _BIRTH_AGAIN_MAGIC = b"b", b"B"
_BIRTH_SUM_BYTES = 16


class Birth(msgspec.Struct, frozen=True, array_like=True):
    """The first proposal of an ordered log: it gives the log its id, and names the master key by a mark.

    `before`: events that the log had when it was adopted, which only copies hold.
    """

    format: int
    log_id: str
    mark: bytes
    before: int = 0


def dump_birth(birth: Birth) -> bytes:
    """As it is proposed first."""
    body = msgspec.msgpack.encode(birth)
    return _BIRTH_MAGIC + _birth_sum(body) + body


def dump_birth_again(birth: Birth, key: bytes) -> bytes:
    """As it is told again. `key`: that of the proposals."""
    body = msgspec.msgpack.encode(birth)
    return _BIRTH_AGAIN_MAGIC + _birth_mac(body, key) + body


def load_birth(proposal: bytes) -> Birth | None:
    """The birth in a first proposal, None if it is none or damaged."""
    body = proposal[1 + _BIRTH_SUM_BYTES :]
    if proposal[:1] != _BIRTH_MAGIC or proposal[1 : 1 + _BIRTH_SUM_BYTES] != _birth_sum(body):
        return None
    return _read_birth(body)


def load_birth_again(proposal: bytes, key: bytes) -> tuple[Birth, bool] | None:
    """A birth that was told again, and whether it was by a node with this key. None if it is none."""
    if proposal[:1] != _BIRTH_AGAIN_MAGIC:
        return None
    body = proposal[1 + _BIRTH_SUM_BYTES :]
    born = _read_birth(body)
    return (
        None
        if born is None
        else (born, hmac.compare_digest(proposal[1 : 1 + _BIRTH_SUM_BYTES], _birth_mac(body, key)))
    )


def is_birth(proposal: bytes) -> bool:
    """Whether it is a birth at all, told first or again."""
    return proposal[:1] in (_BIRTH_MAGIC, _BIRTH_AGAIN_MAGIC)


def _read_birth(body: bytes) -> Birth | None:
    try:
        return msgspec.msgpack.decode(body, type=Birth)
    except (msgspec.MsgspecError, UnicodeDecodeError):  # the latter: a text that is no UTF-8
        return None


def _birth_sum(body: bytes) -> bytes:
    return blake2b(body, digest_size=_BIRTH_SUM_BYTES).digest()


def _birth_mac(body: bytes, key: bytes) -> bytes:
    return blake2b(body, digest_size=_BIRTH_SUM_BYTES, key=key, person=b"huahuo birth").digest()
