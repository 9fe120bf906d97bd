"""A proposal: what one node wants to commit next, as data that every node applies alike. Pure.

    b"h" || MAC (16 bytes) || version (1 byte) || MessagePack

The MAC is keyed by the master key and covers the log's id, so every node alike tells a proposal that is
damaged, or of another log's node, from a good one, and ignores it. The version is read only after the MAC
fits, so no damage looks like a newer format.

The first proposal of an ordered log, its genesis record, gives the log its id. A node may put it in order
once more, so that all before it can be trimmed; the first that an ordered log keeps counts:

    b"b" || MAC (16 bytes) || MessagePack([format, log id, events before it])

Every node that finds an empty ordered log proposes one. The first in the order counts; all others are
ignored.
"""

import hmac
from collections.abc import Iterable
from hashlib import blake2b

import msgspec

from huahuo.eventstore.core.storage_port import NOTHING, Carried, Passed, PutAcks
from huahuo.eventstore.errors import EventStoreError, WrongKey
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


_encoder = msgspec.msgpack.Encoder(enc_hook=dict)  # the read-only mapping of an append that expects nothing
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
_BIRTH_MAGIC = b"b"


class Birth(msgspec.Struct, frozen=True, array_like=True):
    """The genesis record of an ordered log: it gives the log its id.

    `before`: events that the log had when it was adopted, which only copies hold.
    """

    format: int
    log_id: str
    before: int = 0


def dump_birth(birth: Birth, key: bytes) -> bytes:
    """As it is proposed. `key`: that of the proposals."""
    body = msgspec.msgpack.encode(birth)
    return _BIRTH_MAGIC + _birth_mac(body, key) + body


def load_birth(proposal: bytes, key: bytes) -> Birth | None:
    """The genesis record, None if it is another proposal.

    Raises:
        WrongKey: it was made with another key, or is damaged.
        NewerFormat: a newer version wrote it.
    """
    if not is_birth(proposal):
        return None
    mac, body = proposal[1 : 1 + MAC_BYTES], proposal[1 + MAC_BYTES :]
    if not hmac.compare_digest(mac, _birth_mac(body, key)):
        raise WrongKey(
            "the ordered log was made with another master key than this node has: it takes the one of the"
            " other nodes"
        )
    born = msgspec.msgpack.decode(body, type=Birth)
    if born.format > BIRTH_FORMAT:
        raise NewerFormat(
            f"the ordered log has format {born.format}, and this version knows {BIRTH_FORMAT}: update this"
            " node"
        )
    return born


def is_birth(proposal: bytes) -> bool:
    """Whether it is a genesis record at all."""
    return proposal[:1] == _BIRTH_MAGIC


def _birth_mac(body: bytes, key: bytes) -> bytes:
    return blake2b(body, digest_size=MAC_BYTES, key=key, person=b"huahuo birth").digest()
