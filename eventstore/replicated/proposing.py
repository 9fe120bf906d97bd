"""Making the proposals of one node: sealing, packing, encoding, numbering. Jobs of the writer's executor.

What a node has under way counts as done when the next secrets are sealed: a key that an earlier proposal of
this node brings, or destroys, is known here before it is applied.
"""

import asyncio
from collections.abc import Iterable, Sequence

import msgspec

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.core.carrying import carry
from huahuo.eventstore.core.changes import Passed, PutAcks
from huahuo.eventstore.core.pending import Pending
from huahuo.eventstore.core.seal import Vault
from huahuo.eventstore.core.storage_port import Lookup
from huahuo.eventstore.model import Append
from huahuo.eventstore.replicated.proposal import (
    HEAD_BYTES_MAX,
    Codec,
    Item,
    Proposal,
    Reserve,
    encode_item,
)

type Part = Pending | Reserve
"""What waits for the outcome of an item."""


class Incarnation(msgspec.Struct, frozen=True):
    """One life of a node: `epoch` counts them, and `token` tells two that begin at once apart."""

    node: str
    epoch: int
    token: str

    def id_of(self, number: int) -> str:
        """The id of its proposal with this number."""
        return f"{self.node}.{self.epoch}.{self.token}.{number}"


class Sent(msgspec.Struct, eq=False):
    """A proposal under way. `done` is resolved once it is applied, or will never be."""

    number: int
    head: Proposal
    data: bytes
    parts: list[Part]
    done: asyncio.Future[None]


class Made(msgspec.Struct):
    """The proposals made of a group, and the appends that cannot be proposed."""

    proposals: list[tuple[Proposal, bytes, list[Part]]]
    refused: list[tuple[Pending, Exception]]


class Proposer:
    """See the module. Jobs never overlap, and the loop calls `forget` while none runs."""

    def __init__(
        self,
        incarnation: Incarnation,
        *,
        lookup: Lookup,
        vault: Vault,
        ambient: Ambient,
        codec: Codec,
        build: str,
    ) -> None:
        self.incarnation = incarnation
        self._lookup = lookup
        self._vault = vault
        self._ambient = ambient
        self._codec = codec
        self._build = build
        self._number = 0
        self._last_s = ambient.monotonic_s()
        self._keys: dict[str, tuple[bytes | None, int]] = {}
        """By owner: its key after what is under way, and the last proposal that changes it."""

    def make(self, parts: Sequence[Part], seen: Passed, bytes_max: int) -> Made:
        """The proposals for `parts`, each of at most `bytes_max` bytes if it has more than one part."""
        made = Made([], [])
        items: list[msgspec.Raw] = []
        taken: list[Part] = []
        size = HEAD_BYTES_MAX
        for part in parts:
            try:
                item = self._item(part)
                raw = encode_item(item)
            except UnicodeEncodeError:
                assert isinstance(part, Pending)
                made.refused.append((part, ValueError("a text of the append holds a lone surrogate")))
                continue
            except Exception as error:  # noqa: BLE001  what cannot be proposed fails alone
                assert isinstance(part, Pending)
                made.refused.append((part, error))
                continue
            more = len(memoryview(raw))
            if taken and size + more > bytes_max:
                made.proposals.append(self._close(items, taken, seen))
                items, taken, size = [], [], HEAD_BYTES_MAX
            self._note_keys(item)
            items.append(raw)
            taken.append(part)
            size += more
        if taken or not parts:
            made.proposals.append(self._close(items, taken, seen))
        return made

    def empty(self, head: Proposal) -> bytes:
        """A proposal in place of one that the ordered log does not take: the same, without its items."""
        return self._codec.encode(head, ())

    def forget(self, number: int) -> None:
        """The proposal `number` is applied: the replica itself knows the keys now."""
        for owner in [owner for owner, (_, by) in self._keys.items() if by <= number]:
            del self._keys[owner]

    def _close(
        self, items: list[msgspec.Raw], parts: list[Part], seen: Passed
    ) -> tuple[Proposal, bytes, list[Part]]:
        now_s = self._ambient.monotonic_s()
        self._number += 1
        me = self.incarnation
        head = Proposal(
            node=me.node, epoch=me.epoch, token=me.token, number=self._number,
            clock_ms=self._ambient.now_ms(), advance_ms=int((now_s - self._last_s) * 1000),
            build=self._build, seen=seen,
        )  # fmt: skip
        self._last_s += head.advance_ms / 1000
        return head, self._codec.encode(head, items), parts

    def _item(self, part: Part) -> Item:
        if isinstance(part, Reserve):
            return Item(reserve=part)
        append = part.append
        if append is None:
            [acks] = part.changes
            assert isinstance(acks, PutAcks), "the writer keeps all other changes to itself"
            return Item(acks=acks)
        if not (append.secrets or append.blobs):
            return Item(append=append)
        held = self._held({put.owner for put in append.secrets})
        return Item(append=append, carried=carry(append, held, self._vault, part.prepared))

    def _held(self, owners: Iterable[str]) -> dict[str, bytes | None]:
        """The key of each owner after what is under way."""
        held: dict[str, bytes | None] = {}
        unknown = []
        for owner in sorted(owners):
            if owner in self._keys:
                held[owner] = self._keys[owner][0]
            else:
                held[owner] = None
                unknown.append(owner)
        if unknown:
            held.update(self._lookup.wrapped_keys(unknown))
        return held

    def _note_keys(self, item: Item) -> None:
        append: Append | None = item.append
        if append is None:
            return
        by = self._number + 1
        for owner in append.shred:
            self._keys[owner] = (None, by)
        for use in item.carried.keys:
            if use.wrapped:
                self._keys[use.owner] = (use.wrapped, by)
