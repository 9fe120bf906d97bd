"""What an outside verifier can check: checkpoints of a log, and proofs that an event is in it.

A proof holds the event's own fields, the link before it, and the path from its leaf to the root that a
signed checkpoint names. Checking a proof needs only the documented formulas (docs/audit.md).
"""

import base64

import msgspec

from huahuo.eventstore.audit.checkpoint import Checkpoint
from huahuo.eventstore.audit.merkle import inclusion_path, leaf_hash, root
from huahuo.eventstore.core.reader import LogReader
from huahuo.eventstore.errors import Damaged
from huahuo.eventstore.model import LOG_STREAM

_PAGE_EVENTS = 50_000
PROOF = "huahuo-inclusion-1"


class NotProvable(LookupError):  # noqa: N818  an answer, said as one
    """There is no such event, it was pruned, or the checkpoint is older than it."""


async def checkpoint_of(log: LogReader, size: int | None = None) -> Checkpoint:
    """The checkpoint of the log now, or as it was after its first `size` events.

    Raises:
        Damaged: a position is missing.
    """
    upto = log.position if size is None else size
    leaves, chain = await _leaves(log, upto)
    return Checkpoint(log.log_id, upto, root(leaves), chain)


async def check_against(log: LogReader, checkpoint: Checkpoint) -> None:
    """Check that the log still begins with the history that was signed.

    Raises:
        Damaged: it does not; the position is the first missing one, or the last that the checkpoint covers.
    """
    if checkpoint.size > log.position:
        raise Damaged(log.position + 1, f"missing: a checkpoint was signed over {checkpoint.size} events")
    now = await checkpoint_of(log, checkpoint.size)
    if (now.root, now.chain) != (checkpoint.root, checkpoint.chain):
        raise Damaged(checkpoint.size, "history was rewritten: it is not the one that was signed")


async def prove(log: LogReader, position: int, size: int) -> dict[str, object]:
    """The proof that the event at `position` is among the first `size`, as JSON values.

    Raises:
        NotProvable: see there. Damaged: a position is missing.
    """
    if not 0 < position <= min(size, log.position):
        raise NotProvable(f"no event at position {position} among the first {size}")
    found = await log.read(LOG_STREAM, position - 1, events_max=1)
    if not found or found[0].position != position:
        raise NotProvable(f"the event at position {position} was pruned")
    leaves, _ = await _leaves(log, size)
    before = await log.chains(position - 2, position - 1) if position > 1 else [bytes(32)]
    event = {name: value for name, value in msgspec.structs.asdict(found[0]).items() if name != "chain"}
    event["body"] = found[0].body.decode()
    return {
        "proof": PROOF,
        "event": event,
        "before": before[0].hex(),
        "chain": found[0].chain.hex(),
        "index": position - 1,
        "size": size,
        "root": base64.b64encode(root(leaves)).decode(),
        "path": [base64.b64encode(node).decode() for node in inclusion_path(leaves, position - 1)],
    }


async def _leaves(log: LogReader, upto: int) -> tuple[list[bytes], bytes]:
    leaves: list[bytes] = []
    chain = bytes(32)
    while len(leaves) < upto:
        links = await log.chains(len(leaves), min(upto, len(leaves) + _PAGE_EVENTS))
        if not links:
            raise Damaged(len(leaves) + 1, "missing")
        leaves += map(leaf_hash, links)
        chain = links[-1]
    return leaves, chain
