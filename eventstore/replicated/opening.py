"""Opening a replica: the ordered log's id first, then the engine, whose writer then applies and proposes.

A directory that holds a replica is opened before its ordered log answers, so that it can be read
meanwhile. Once the ordered log answers, its birth is compared with the directory's log before anything is
applied or proposed (`SameOrder`).
"""

import asyncio
import contextlib
import functools
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from typing import Any

import msgspec

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.core.seal import Vault, derive
from huahuo.eventstore.errors import EventStoreError, WrongKey
from huahuo.eventstore.replicated import proposal
from huahuo.eventstore.replicated.proposal import NODE_CHARS_MAX, Birth, NewerFormat
from huahuo.eventstore.replicated.writer import ReplicaWriter
from huahuo.eventstore.sequencer.port import InDoubt, Misconfigured, Ordered, Sequencer, Trimmed, Unreachable

CHECK_S = 10.0
"""How long the ordered log may take for its first proposal, once it has said that it has one."""


class SameOrder:
    """A `Sequencer` in front of another one. See the module."""

    def __init__(self, inner: Sequencer, log_id: str, applied: int) -> None:
        """`log_id` and `applied`: the directory's log, and the last offset that it has applied."""
        self._inner = inner
        self._log_id = log_id
        self._applied = applied
        self._checking = asyncio.Lock()
        self._checked = False

    @property
    def trouble(self) -> str:
        """See `Sequencer`."""
        return self._inner.trouble

    @property
    def proposal_bytes_max(self) -> int:
        """See `Sequencer`."""
        return self._inner.proposal_bytes_max

    async def check(self) -> None:
        """Compare once.

        Raises:
            Unreachable: the ordered log does not answer.
            Misconfigured: it is another one, or went back.
        """
        async with self._checking:
            if self._checked:
                return
            last = await self._inner.last()
            if last < self._applied:
                raise Misconfigured(
                    f"the ordered log ends at offset {last}, and this directory has applied {self._applied}"
                    " proposals: it is another log, or it went back (docs/scaling.md)"
                )
            found = await self._born(last)
            if found not in {self._log_id, None}:
                raise Misconfigured(
                    f"this directory holds the log {self._log_id}, and the ordered log is that of"
                    f" {found}: use the address or the --data that belongs to it"
                )
            self._checked = True

    async def propose(self, proposal: bytes, proposal_id: str) -> int:
        """See `Sequencer`."""
        if not self._checked:
            await self.check()
        return await self._inner.propose(proposal, proposal_id)

    async def follow(self, after: int) -> AsyncGenerator[Ordered]:
        """See `Sequencer`."""
        ordered = self._inner.follow(after)
        try:
            async for one in ordered:
                if not self._checked:
                    await self.check()
                yield one
        finally:
            await ordered.aclose()

    async def last(self) -> int:
        """See `Sequencer`."""
        if not self._checked:
            await self.check()
        return await self._inner.last()

    async def trim(self, before: int) -> None:
        """See `Sequencer`."""
        await self._inner.trim(before)

    async def close(self) -> None:
        """See `Sequencer`."""
        await self._inner.close()

    async def _born(self, last: int) -> str | None:
        """The id of the ordered log, by its birth or, once it was trimmed, by one that was told again.

        None if it holds neither, as after a trim by hand, which is no sign of another log.
        """
        after = 0
        while True:
            births = _Births(self._log_id)
            ordered = self._inner.follow(after)
            try:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CHECK_S):
                        await births.read(ordered, last)
            except Trimmed as error:
                after = error.first - 1
            else:
                return births.found
            finally:
                await ordered.aclose()


class _Births:
    """Looks for the birth that counts: the first one; of those told again, that of the log `log_id` if any.

    A birth that was told again may be of another key, and so of another log.
    """

    def __init__(self, log_id: str) -> None:
        self.found: str | None = None
        self._log_id = log_id

    async def read(self, ordered: AsyncIterator[Ordered], last: int) -> None:
        """Read the order up to `last`, or until it is known."""
        async for one in ordered:
            born = proposal.load_birth(one.proposal)
            if born is not None and self.found is None:
                self.found = born.log_id
                return
            again = proposal.load_birth_again(one.proposal, b"")
            told = None if again is None else again[0].log_id
            if told == self._log_id or self.found is None:
                self.found = told
            if self.found == self._log_id or one.offset >= last:
                return


AGAIN_S = 0.5
_NODE = re.compile(r"[A-Za-z0-9_-]+")

HELD_S = 3.0
"""How long the start of a directory that holds a replica waits for the ordered log, to be told at once if it
is another one."""


class Held(msgspec.Struct, frozen=True):
    """The replica in a directory: its log, the last offset that it has applied, and the digest there."""

    log_id: str
    offset: int
    digest: bytes = b""


type OpenEngine[L: StoreLog] = Callable[..., Coroutine[Any, Any, L]]
"""An engine's `open`, bound to its place: it is called with `log_id` and `writer_of`."""


async def open_replica[L: StoreLog](
    engine: OpenEngine[L],
    *,
    ambient: Ambient,
    master_key: bytes,
    sequencer: Sequencer,
    node: str,
    held: Held | None = None,
) -> L:
    """Open the replica of `node` and join the ordered log. An empty directory waits for its first answer.

    `held`: what the directory holds already. It is opened even while the ordered log can't be reached.
    It returns before the replica has applied everything: `ReplicaWriter.joined` waits for that. Closing the
    log closes the sequencer.

    Raises:
        WrongKey: the ordered log was made with another master key.
        EventStoreError: the directory is no replica of this ordered log; or as the engine's `open`.
    """
    if not _NODE.fullmatch(node) or len(node) > NODE_CHARS_MAX:
        raise EventStoreError(
            f"not the name of a node: {node!r}; use at most {NODE_CHARS_MAX} letters, digits, `-` and `_`"
        )
    if held is None:
        beginning = await find_beginning(sequencer, master_key, ambient)
        if not beginning.is_whole:
            raise EventStoreError(
                "the ordered log does not hold the whole history any more: this node needs a copy of another"
                " one, and no other node could give one"
            )
        log_id = beginning.birth.log_id
    else:
        log_id = held.log_id
        sequencer = await _checked(SameOrder(sequencer, log_id, held.offset))
    writer_of = functools.partial(
        ReplicaWriter, sequencer=sequencer, node=node, key=derive(master_key, "proposals")
    )
    log = await engine(log_id=log_id, writer_of=writer_of)
    writer = log.writer
    assert isinstance(writer, ReplicaWriter)
    refused = ""
    if log.log_id != log_id:
        refused = f"this directory holds the log {log.log_id}, and the ordered log is that of {log_id}"
    elif log.position and not writer.shared.offset:
        refused = "this directory holds the log of a single service: adopt it into a cluster first"
    if refused:
        await log.close()
        raise EventStoreError(refused)
    return log


async def _checked(order: SameOrder) -> SameOrder:
    """`order`, compared with the directory if the ordered log answers soon; else that is done later."""
    try:
        async with asyncio.timeout(HELD_S):
            await order.check()
    except (Unreachable, TimeoutError):
        pass
    except Misconfigured as error:
        await order.close()
        raise EventStoreError(str(error)) from None
    return order


class Beginning(msgspec.Struct, frozen=True):
    """How an ordered log begins: its birth, the oldest offset that it keeps, and its newest one."""

    birth: Birth
    first: int
    last: int

    @property
    def is_whole(self) -> bool:
        """Whether an empty directory can follow it from its first event."""
        return self.first == 1 and not self.birth.before


async def find_beginning(sequencer: Sequencer, master_key: bytes, ambient: Ambient) -> Beginning:
    """How the ordered log begins; a birth is proposed if it is empty. Waits while it cannot be reached.

    Raises:
        WrongKey, NewerFormat: this node's keys or version do not fit.
        EventStoreError: it has no genesis record.
        SequencerError: as `Sequencer.follow`.
    """
    vault = Vault(master_key, ambient)
    while True:
        try:
            last = await sequencer.last()
            if last == 0:
                made = Birth(proposal.BIRTH_FORMAT, ambient.token(), vault.mark())
                last = await sequencer.propose(proposal.dump_birth(made), f"birth.{made.log_id}")
            break
        except (Unreachable, InDoubt):
            await asyncio.sleep(AGAIN_S)
    first = 1
    while True:
        try:
            born = await _birth_behind(sequencer, first - 1, last, derive(master_key, "proposals"), vault)
        except Trimmed as error:
            if error.first > last:
                raise EventStoreError(_purged(error.first)) from None
            first = error.first
            continue
        return Beginning(born, first, last)


async def _birth_behind(sequencer: Sequencer, after: int, last: int, key: bytes, vault: Vault) -> Birth:
    ordered = sequencer.follow(after)
    try:
        async for one in ordered:
            born = proposal.load_birth(one.proposal) if after == 0 else None
            again = proposal.load_birth_again(one.proposal, key) if born is None else None
            if again is not None:
                born = again[0]
            if born is not None:
                if born.format > proposal.BIRTH_FORMAT:
                    raise NewerFormat(
                        f"the ordered log has format {born.format}, and this version knows"
                        f" {proposal.BIRTH_FORMAT}: update this node"
                    )
                if not vault.knows(born.mark):
                    raise WrongKey(
                        "the ordered log was made with another master key than this node has: it takes the"
                        " one of the other nodes"
                    )
                if again is None or again[1]:
                    return born
            if one.offset >= last:
                break
    finally:
        await ordered.aclose()
    raise EventStoreError(_purged(after + 1))


def _purged(first: int) -> str:
    return (
        f"the ordered log begins at offset {first} and holds no genesis record, which names the log: it was"
        " purged, or trimmed by hand. Nodes whose --data holds the log go on: start one if none runs, run"
        " `huahuo cluster trim` there, which writes a new genesis record, and start this node again. If no"
        " such directory is left, restore a backup and adopt it into an empty ordered log (another `?name=`)"
    )
