"""Opening a replica: the ordered log's id first, then the engine, whose writer then applies and proposes.

A directory that holds a replica is opened before its ordered log answers, so that it can be read
meanwhile. Once the ordered log answers, the writer compares it with the directory's log before it applies
or proposes anything.
"""

import asyncio
import contextlib
import functools
import re
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.core.seal import derive
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.replicated import proposal
from huahuo.eventstore.replicated.order_reader import find_genesis
from huahuo.eventstore.replicated.proposal import NODE_CHARS_MAX, Birth
from huahuo.eventstore.replicated.writer import ReplicaWriter
from huahuo.eventstore.sequencer.port import InDoubt, Sequencer, Unreachable

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
    log_id = "" if held is None else held.log_id
    if held is None:
        beginning = await find_beginning(sequencer, master_key, ambient)
        if not beginning.is_whole:
            raise EventStoreError(
                "the ordered log does not hold the whole history any more: this node needs a copy of another"
                " one, and no other node could give one"
            )
        log_id = beginning.birth.log_id
    writer_of = functools.partial(
        ReplicaWriter, sequencer=sequencer, node=node, key=derive(master_key, "proposals")
    )
    log = await engine(log_id=log_id, writer_of=writer_of)
    writer = log.writer
    assert isinstance(writer, ReplicaWriter)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(HELD_S):
            await writer.compared.wait()
    refused = writer.foreign
    if log.log_id != log_id:
        refused = f"this directory holds the log {log.log_id}, and the ordered log is that of {log_id}"
    if refused:
        await log.close()
        raise EventStoreError(refused)
    return log


class Beginning(msgspec.Struct, frozen=True):
    """How an ordered log begins: its genesis record, the oldest offset that it keeps, and its newest one."""

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
        NoGenesis: it has no genesis record.
        SequencerError: as `Sequencer.follow`.
    """
    key = derive(master_key, "proposals")
    while True:
        try:
            last = await sequencer.last()
            if last == 0:
                made = Birth(proposal.BIRTH_FORMAT, ambient.token())
                last = await sequencer.propose(proposal.dump_birth(made, key))
            break
        except (Unreachable, InDoubt):
            await asyncio.sleep(AGAIN_S)
    return Beginning(*await find_genesis(sequencer, key, last), last)
