"""What a follower of PostgreSQL's table reads: pages without gaps, and this node's own newest proposals."""

import hashlib
from collections.abc import Sequence
from typing import Any

from huahuo.eventstore.sequencer.port import Misconfigured, Trimmed
from huahuo.eventstore.sequencer.postgres_words import HEAD_LOST

OWN_MAX, OWN_BYTES_MAX = 64, 4 << 20
"""Of this node's own newest proposals, those that a follower takes from memory: a question less each."""

PLACE = "proposals_pkey"
"""The constraint that such a row breaks."""


class OwnNewest:
    """The newest proposals of this node that are durable, by their offset."""

    def __init__(self) -> None:
        self._bodies: dict[int, bytes] = {}
        self._bytes = 0

    def keep(self, offset: int, body: bytes) -> None:
        """Keep a proposal, and drop the oldest ones beyond the bounds."""
        self._bodies[offset] = body
        self._bytes += len(body)
        while len(self._bodies) > OWN_MAX or self._bytes > OWN_BYTES_MAX:
            self._bytes -= len(self._bodies.pop(next(iter(self._bodies))))

    def __contains__(self, offset: int) -> bool:
        return offset in self._bodies

    def get(self, offset: int) -> bytes | None:
        """The proposal at `offset`; None: it is not kept."""
        return self._bodies.get(offset)


def judge(rows: Sequence[Any], last: int) -> list[bytes]:
    """The bodies of a page, if it goes on from `last` without a gap.

    Raises:
        Misconfigured: the log lost what it had acknowledged.
        Trimmed: it begins later.
    """
    if not rows:
        raise Misconfigured(HEAD_LOST)
    head = rows[0]
    if head["last"] < last:
        raise Misconfigured(
            f"the log went back: it ends at offset {head['last']}, and {last} was applied here."
            " It was restored from an older copy, or a fail-over lost commits: see docs/scaling.md"
        )
    if head["first"] > last + 1:
        raise Trimmed(f"the log begins at offset {head['first']}, and {last + 1} is needed", head["first"])
    bodies = []
    for row in rows:
        if row["position"] is None and head["last"] <= last:
            break
        last += 1
        if row["position"] != last:
            raise Misconfigured(f"the log has no offset {last}: somebody deleted a row of its table")
        bodies.append(row["body"])
    return bodies


def compare(found: Sequence[Any], last: int, digest: bytes) -> None:
    """After a lost connection: the proposal that was read last must still be at its place, `found`.

    Raises:
        Misconfigured: another one is, or none.
    """
    if found and found[0]["first"] > last:
        return
    bodies = judge(found, last - 1)
    if not bodies or hashlib.sha256(bodies[0]).digest() != digest:
        raise Misconfigured(
            f"the log has another proposal at offset {last} than the one that was read here:"
            " a fail-over lost commits; docs/scaling.md says what to do"
        )
