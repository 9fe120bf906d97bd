"""What a node proposes.

Its proposals, each under way until it is applied, and the numbers of counters that it reserves.

Proposals are made (sealed, packed, encoded, numbered) in jobs of the writer's executor. What a node has
under way counts as done when the next secrets are sealed: a key that an earlier proposal of this node
brings, or destroys, is known here before it is applied.

Reserved numbers come in blocks that no other node hands out from. Numbers rise within a node, not over all
nodes. What is left of a block when the node stops is never used.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress

import msgspec

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.core.draft import Outcome
from huahuo.eventstore.core.seal import Vault, carry
from huahuo.eventstore.core.storage_port import Lookup, Passed, PutAcks
from huahuo.eventstore.core.writer import Pending
from huahuo.eventstore.errors import NumbersSpent, TooLarge, Unavailable
from huahuo.eventstore.model import Append
from huahuo.eventstore.replicated.order_reader import Arrivals
from huahuo.eventstore.replicated.proposal import HEAD_BYTES_MAX, Codec, Item, Proposal, Reserve, encode_item
from huahuo.eventstore.replicated.state_machine import Reserved
from huahuo.eventstore.sequencer.port import (
    InDoubt,
    ProposalTooLarge,
    Sequencer,
    SequencerError,
    Unreachable,
)

type Part = Pending | Reserve
"""What waits for the outcome of an item."""


class Incarnation(msgspec.Struct, frozen=True):
    """One life of a node: `epoch` counts them, and `token` tells two that begin at once apart."""

    node: str
    epoch: int
    token: str


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
    """Making the proposals of one node: sealing, packing, encoding, numbering. Jobs of the writer's executor.

    Jobs never overlap, and the loop calls `forget` while none runs.
    """

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


PROPOSE_AGAIN_S = 0.1
"""The pause before a proposal whose fate is not known is proposed again."""


class Outbox:
    """The proposals of a node that are under way: each is proposed until it is applied.

    `tell` gets pending appends with their outcomes, `want` a reservation that is to be proposed again,
    `reached` the reason why the ordered log cannot be reached, or None, and `doubt` the hint of an `InDoubt`.
    """

    def __init__(
        self, sequencer: Sequencer, arrivals: Arrivals, *,
        tell: Callable[[Sequence[Pending], Sequence[Outcome]], None],
        want: Callable[[Reserve], None],
        reached: Callable[[str | None], None],
        doubt: Callable[[str], None],
        halt: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._sequencer = sequencer
        self._arrivals = arrivals
        self._tell = tell
        self._want = want
        self._reached = reached
        self._doubt = doubt
        self._halt = halt
        self._under_way: dict[int, Sent] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._under_way)

    @property
    def waiting(self) -> set[asyncio.Future[None]]:
        """A future for each proposal under way, resolved when it is no longer."""
        return {sent.done for sent in self._under_way.values()}

    def send(self, proposer: Proposer, made: Made) -> None:
        """Propose these, in their order, behind those under way."""
        before = next(reversed(self._under_way.values()), None)
        for head, data, parts in made.proposals:
            sent = Sent(head.number, head, data, parts, asyncio.get_running_loop().create_future())
            self._under_way[sent.number] = sent
            self._task(self._deliver(proposer, sent, before))
            before = sent

    def send_once(self, made: Made) -> None:
        """Propose these without waiting for them."""

        async def send() -> None:
            for _, data, _ in made.proposals:
                with suppress(SequencerError):
                    await self._sequencer.propose(data)

        self._task(send())

    def take(self, number: int) -> Sent | None:
        """The proposal with this number, which is applied. The caller resolves its `done`."""
        return self._under_way.pop(number, None)

    def lose(self, reason: str) -> None:
        """No outcome of what is under way will be known here."""
        under_way = list(self._under_way.values())
        self._under_way.clear()
        for sent in under_way:
            pendings = [part for part in sent.parts if isinstance(part, Pending)]
            self._tell(pendings, [Unavailable(reason) for _ in pendings])
            sent.done.set_result(None)

    async def close(self) -> None:
        """End what still tries to propose."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _deliver(self, proposer: Proposer, sent: Sent, before: Sent | None) -> None:
        """Propose until it is applied. One that overtook the one before it is ignored: propose it again."""
        while not sent.done.done():
            try:
                offset = await self._sequencer.propose(sent.data)
                await self._arrivals.applied(offset)
                self._reached(None)  # not before: a log may take proposals and give none back
            except ProposalTooLarge as error:
                self._empty(proposer, sent, str(error))
            except (Unreachable, InDoubt) as error:
                if isinstance(error, Unreachable):
                    self._reached(str(error))
                else:
                    self._doubt(error.hint)
                await asyncio.sleep(PROPOSE_AGAIN_S)
            except SequencerError as error:
                self._halt(str(error))
                return
            except Unavailable:
                return
            else:
                if not sent.done.done() and before is not None and not before.done.done():
                    await asyncio.wait([before.done])
        self._reached(None)  # it is applied, also if the answer never came

    def _empty(self, proposer: Proposer, sent: Sent, reason: str) -> None:
        """The ordered log does not take it: an empty proposal takes its number."""
        pendings = [part for part in sent.parts if isinstance(part, Pending)]
        for part in sent.parts:
            if isinstance(part, Reserve):
                self._want(part)
        sent.parts = []
        sent.data = proposer.empty(sent.head)
        self._tell(pendings, [TooLarge(reason) for _ in pendings])

    def _task(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="log proposal")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


BLOCK = 1024
"""Numbers reserved at a time: a node hands out about half of them while the next block is under way."""


class Reservations:
    """Reserving numbers of counters for this node: what is wanted, what is under way, and who waits for it.

    `wanted` maps a counter to the numbers that the next proposal reserves.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self.wanted: dict[str, int] = {}
        self._wake = wake
        self._blocks: dict[str, list[tuple[int, int]]] = {}
        """(first, end) of what is left, ascending; one ends where the next begins in another block."""
        self._coming: dict[str, asyncio.Future[None]] = {}

    def take(self, counter: str, count: int) -> int:
        """The first of `count` reserved numbers; a next block is asked for before the last is used up.

        Raises:
            NumbersSpent: fewer are reserved.
        """
        blocks, found = self._blocks.get(counter, []), None
        while blocks and found is None:
            first, end = blocks[0]
            if end - first >= count:
                blocks[0], found = (first + count, end), first
            elif len(blocks) == 1:
                break
            else:  # what is left of it is given up, so that numbers rise
                blocks.pop(0)
        if found is None or sum(end - first for first, end in blocks) < BLOCK // 2:
            self._want(counter, count)
        if found is None:
            raise NumbersSpent(counter, count)
        return found

    async def reserve(self, counter: str, count: int) -> None:
        """Wait until `count` numbers are reserved. Raises Unavailable."""
        while not any(end - first >= count for first, end in self._blocks.get(counter, ())):
            await asyncio.shield(self._want(counter, count))

    def next_wanted(self) -> list[Reserve]:
        """What the next proposal reserves."""
        wanted = [Reserve(counter, count) for counter, count in self.wanted.items()]
        self.wanted.clear()
        return wanted

    def want_again(self, reserve: Reserve) -> None:
        """What was wanted did not get into a proposal."""
        self.wanted[reserve.counter] = reserve.count

    def came(self, reserved: Reserved) -> None:
        """A block is this node's."""
        blocks, first = self._blocks.setdefault(reserved.counter, []), reserved.first
        if blocks and blocks[-1][1] == first:
            first, _ = blocks.pop()
        blocks.append((first, reserved.first + reserved.count))
        waiter = self._coming.pop(reserved.counter, None)
        if waiter is not None:
            waiter.set_result(None)

    def end(self, reason: str) -> None:
        """Nothing is reserved any more."""
        for waiter in self._coming.values():
            waiter.set_exception(Unavailable(reason))
            waiter.exception()  # it counts as retrieved, so asyncio does not log it
        self._coming.clear()
        self.wanted.clear()

    def _want(self, counter: str, count: int) -> asyncio.Future[None]:
        coming = self._coming.get(counter)
        if coming is None:
            coming = self._coming[counter] = asyncio.get_running_loop().create_future()
            self.wanted[counter] = max(count, BLOCK)
            self._wake()
        return coming
