"""The replicated state that is in no table: how far the order is applied, log time, and the members. Pure.

Log time ages command records. A proposal moves it towards its proposer's wall clock, but no further than the
proposer's own monotonic clock moved since its last proposal. So a wall clock that is wrong, on any number of
nodes, cannot make it run fast; over a restart of a node it moves by an hour at most.
"""

import msgspec

from huahuo.eventstore.core.ages import RESTART_STEP_MS_MAX
from huahuo.eventstore.core.chain import GENESIS
from huahuo.eventstore.replicated.proposal import Proposal


class Member(msgspec.Struct, frozen=True, array_like=True):
    """A node's present incarnation: the last `number` of it that was applied, and log time then."""

    epoch: int
    token: str
    number: int
    time_ms: int
    build: str

    def is_of(self, proposal: Proposal) -> bool:
        """Whether the proposal is of this incarnation."""
        return (self.epoch, self.token) == (proposal.epoch, proposal.token)


class Shared(msgspec.Struct, frozen=True, array_like=True):
    """See the module. `digest` chains what became of each proposal, as the log's chain does its events.

    `members` has the present incarnation of each node; those before it have ended.
    """

    offset: int = 0
    digest: bytes = GENESIS
    time_ms: int = 0
    members: dict[str, Member] = {}


def is_next(shared: Shared, proposal: Proposal) -> bool:
    """Whether the proposal is the next of its incarnation. Every other one is ignored.

    An incarnation begins with number 1 and ends the node's incarnations of lower epochs. Of two that begin
    with the same epoch, the one that is ordered first counts.
    """
    member = shared.members.get(proposal.node)
    if member is not None and member.is_of(proposal):
        return proposal.number == member.number + 1
    return proposal.number == 1 and (member is None or proposal.epoch > member.epoch)


def time_after(shared: Shared, proposal: Proposal) -> int:
    """Log time once `proposal`, the next of its incarnation, is applied."""
    member = shared.members.get(proposal.node)
    if not shared.time_ms:
        return proposal.clock_ms
    if member is not None and member.is_of(proposal):
        bound_ms = member.time_ms + max(proposal.advance_ms, 0)
    else:
        bound_ms = shared.time_ms + RESTART_STEP_MS_MAX
    return max(shared.time_ms, min(proposal.clock_ms, bound_ms))


_encode = msgspec.msgpack.Encoder(order="deterministic").encode
_decode = msgspec.msgpack.Decoder(Shared).decode


def dump(shared: Shared) -> bytes:
    """As it is stored."""
    return _encode(shared)


def load(stored: bytes) -> Shared:
    """What `dump` was given; of a log that was no replica so far, the state before the first proposal."""
    return _decode(stored) if stored else Shared()
