"""Opening a replica: the ordered log's id first, then the engine, whose writer then applies and proposes."""

import asyncio
import functools
import re
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.core.seal import Vault, derive
from huahuo.eventstore.errors import EventStoreError, WrongKey
from huahuo.eventstore.replicated import birth
from huahuo.eventstore.replicated.birth import Birth
from huahuo.eventstore.replicated.proposal import NODE_CHARS_MAX, NewerFormat
from huahuo.eventstore.replicated.same_order import SameOrder
from huahuo.eventstore.replicated.writer import ReplicaWriter
from huahuo.eventstore.sequencer.port import InDoubt, Misconfigured, Sequencer, Trimmed, Unreachable

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
                made = Birth(birth.FORMAT, ambient.token(), vault.mark())
                last = await sequencer.propose(birth.dump(made), f"birth.{made.log_id}")
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
            born = birth.load(one.proposal) if after == 0 else None
            again = birth.load_again(one.proposal, key) if born is None else None
            if again is not None:
                born = again[0]
            if born is not None:
                if born.format > birth.NEWEST_FORMAT:
                    raise NewerFormat(
                        f"the ordered log has format {born.format}, and this version knows"
                        f" {birth.NEWEST_FORMAT}: update this node"
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
