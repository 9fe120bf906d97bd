"""The replicated state machine: a function of the replicated state, an offset and a proposal. Pure.

Every node runs it on the same proposals in the same order, so it knows no clock, no chance, no name of the
node it runs on and no thread. An append has one of three outcomes: appended, duplicate, or a refusal that
follows from the replicated state. Any other exception, such as a read that fails, ends the run: nothing of
it is written, and the same offset is applied again. A job applies several proposals in one commit.

`Shared` is the replicated state that is in no table: how far the order is applied, log time, and the
members. Log time ages command records. A proposal moves it towards its proposer's wall clock, but no
further than the proposer's own monotonic clock moved since its last proposal. So a wall clock that is
wrong, on any number of nodes, cannot make it run fast; over a restart of a node it moves by an hour at
most.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import msgspec

from huahuo.eventstore.core.chain import GENESIS
from huahuo.eventstore.core.command_records import RESTART_STEP_MS_MAX
from huahuo.eventstore.core.draft import Draft, Outcome
from huahuo.eventstore.core.storage_port import Change, Group, Passed, PutCounter, PutPassed
from huahuo.eventstore.errors import Conflict, EventStoreError
from huahuo.eventstore.model import Appended, Duplicate
from huahuo.eventstore.replicated import proposal as proposals
from huahuo.eventstore.replicated.proposal import Codec, Item, Proposal
from huahuo.eventstore.sequencer.port import Ordered


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
    """The replicated state that is in no table: how far the order is applied, log time, and the members.

    `digest` chains what became of each proposal, as the log's chain does its events.

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


_decode_shared = msgspec.msgpack.Decoder(Shared).decode


def dump_shared(shared: Shared) -> bytes:
    """As it is stored."""
    return _encode(shared)


def load_shared(stored: bytes) -> Shared:
    """What `dump` was given; of a log that was no replica so far, the state before the first proposal."""
    return _decode_shared(stored) if stored else Shared()


_encode = msgspec.msgpack.Encoder(order="deterministic").encode


class Reserved(msgspec.Struct, frozen=True):
    """The proposer's block of a counter: `count` numbers from `first`."""

    counter: str
    first: int
    count: int


type Result = Outcome | Reserved


class Step(msgspec.Struct, frozen=True):
    """What became of the proposal at `offset`: None if it is none of this log, or a result for each item.

    `applied` is False for a proposal that is not the next of its incarnation: it changes nothing.
    """

    offset: int
    proposal: Proposal | None
    applied: bool
    results: list[Result]
    is_birth: bool = False


class Run:
    """Applies proposals one after the other to one draft. `shared` and `counters` are after those so far."""

    def __init__(
        self, draft: Draft, shared: Shared, counters: Mapping[str, int], first_number: int, codec: Codec
    ) -> None:
        self.shared = shared
        self.counters: dict[str, int] = {}
        """The next number of each counter that was reserved from."""
        self._draft = draft
        self._known_counters = counters
        self._first_number = first_number
        self._codec = codec

    def passed(self) -> Passed:
        """What the replica has after the proposals so far."""
        return Passed(self.shared.offset, self._draft.chain, self.shared.digest)

    def add(self, ordered: Ordered) -> Step:
        """Apply one more proposal.

        Raises:
            NewerFormat: a newer version wrote it.
            Exception: the state could not be read. Nothing that was added may be written.
        """
        proposal = self._codec.decode(ordered.proposal)
        if proposal is None or not is_next(self.shared, proposal):
            self._pass(ordered.offset, self.shared.time_ms, self.shared.members, None)
            return Step(ordered.offset, proposal, False, [], proposals.is_birth(ordered.proposal))
        draft = self._draft
        draft.build = proposal.build
        draft.age_ms = time_ms = time_after(self.shared, proposal)
        keys = [
            one.append.command.key for one in proposal.items if one.append is not None and one.append.command
        ]
        if len(keys) > 1:
            draft.look_up(keys)
        first_change = len(draft.changes)
        results = [self._result(item) for item in proposal.items]
        member = Member(proposal.epoch, proposal.token, proposal.number, time_ms, proposal.build)
        members = {**self.shared.members, proposal.node: member}
        what = [[_outcome_told(result) for result in results], draft.changes[first_change:], draft.chain]
        self._pass(ordered.offset, time_ms, members, what)
        return Step(ordered.offset, proposal, True, results)

    def _pass(self, offset: int, time_ms: int, members: dict[str, Member], what: list[Any] | None) -> None:
        self.shared = _after(self.shared, offset, time_ms, members, what)

    def _result(self, item: Item) -> Result:
        draft = self._draft
        if item.reserve is not None:
            counter, count = item.reserve.counter, item.reserve.count
            first = self.counters.get(counter) or self._known_counters.get(counter, self._first_number)
            self.counters[counter] = first + count
            put: Change = PutCounter(counter, first + count)
            draft.changes.append(put)
            return Reserved(counter, first, count)
        if item.append is not None:
            return draft.add(item.append, item.carried)
        if item.acks is not None:
            draft.changes.append(item.acks)
        return Appended(draft.position, ())


def _after(
    shared: Shared, offset: int, time_ms: int, members: dict[str, Member], what: list[Any] | None
) -> Shared:
    digest = blake2b(shared.digest, digest_size=32)
    digest.update(_encode((offset, time_ms, what)))
    return Shared(offset, digest.digest(), time_ms, members)


def after_birth() -> Shared:
    """What every replica has once it has applied the first proposal, the birth."""
    return _after(Shared(), 1, 0, {}, None)


def _outcome_told(result: Result) -> list[Any]:
    """A result for the digest: what the nodes must agree on, and no words."""
    match result:
        case Appended():
            return ["a", result.position, len(result.events)]
        case Reserved():
            return ["r", result.counter, result.first, result.count]
        case Duplicate():
            return ["d", result.command.fingerprint, result.command.at_seq]
        case Conflict():
            return ["c", result.stream, result.expected, result.actual]
        case _:
            return [type(result).__name__]


class Applied(msgspec.Struct):
    """A step for each proposal, and what the replica had after it. The rest is the state after them all."""

    draft: Draft
    steps: list[Step]
    passed: list[Passed]
    shared: Shared
    counters: dict[str, int]
    spent_s: float = 0.0

    def group(self) -> Group:
        """The commit, with how far the order is applied."""
        put = PutPassed(dump_shared(self.shared), tuple(self.passed))
        return Group(self.shared.time_ms, self.draft.events, [*self.draft.changes, put])


def apply_all(run: Run, draft: Draft, batch: Sequence[Ordered]) -> Applied:
    """Apply the proposals of `batch` to the draft of `run`.

    Raises:
        EventStoreError: one is missing; or as `Run.add`.
    """
    steps: list[Step] = []
    passed: list[Passed] = []
    for one in batch:
        if one.offset != run.shared.offset + 1:
            raise EventStoreError(f"proposal {run.shared.offset + 1} is missing in the ordered log")
        steps.append(run.add(one))
        passed.append(run.passed())
    return Applied(draft, steps, passed, run.shared, run.counters)
