"""The one task of a replica's writer: it applies, commits, proposes and takes care, each in its turn.

    queue ── proposals, several under way ──▶ Sequencer ── one order ──▶ apply, commit, resolve

Appends gather as in `Writer`; a group becomes one or more proposals, cut by their encoded size. In doubt
about a proposal, the node proposes the same number again: only the next number of an incarnation is applied,
so nothing happens twice.
"""

import asyncio
from abc import ABC
from collections.abc import Sequence

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.core.changes import Change, PutAcks
from huahuo.eventstore.core.draft import Outcome
from huahuo.eventstore.core.pending import Pending, Written, tell_hearers
from huahuo.eventstore.core.place import Loaded
from huahuo.eventstore.core.seal import Vault
from huahuo.eventstore.core.storage_port import Reads, Store
from huahuo.eventstore.core.writer import GROUP_BYTES_MAX, GROUP_EVENTS_MAX
from huahuo.eventstore.errors import Closed, Unavailable
from huahuo.eventstore.executor import Executor
from huahuo.eventstore.replicated.applying import ApplyingWriter
from huahuo.eventstore.replicated.outbox import Outbox
from huahuo.eventstore.replicated.proposing import Part, Proposer
from huahuo.eventstore.replicated.reaching import Reaching
from huahuo.eventstore.sequencer.port import Sequencer

UNDER_WAY_MAX = 4
"""Proposals of this node that may be under way: more gain nothing, since the next ones gather meanwhile."""


class ProposingWriter(ApplyingWriter, ABC):
    """See the module. Subclasses set `proposer`, and say what a proposal means to this node."""

    def __init__(
        self, store: Store, reads: Reads, loaded: Loaded, *,
        vault: Vault, ambient: Ambient, build: str, executor: Executor, sequencer: Sequencer, key: bytes,
    ) -> None:  # fmt: skip
        super().__init__(
            store, reads, loaded, vault=vault, ambient=ambient, build=build, executor=executor,
            sequencer=sequencer, key=key,
        )  # fmt: skip
        self.proposer: Proposer | None = None
        """None until this node knows the newest proposal and may begin its incarnation."""
        self.went_away = asyncio.Event()
        """Set once the ordered log could not be reached."""
        self.sequencer = sequencer
        self._reaching = Reaching(ambient)
        self._outbox = Outbox(
            sequencer, self._arrivals, tell=self._tell_outcomes, want=self._numbers.want_again,
            reached=self._reached, doubt=self._reaching.doubt, halt=self.halt,
        )  # fmt: skip
        self._announced = False
        self._spoke_s = 0.0

    def write(self, changes: tuple[Change, ...], size: int) -> asyncio.Future[Written]:
        """As `Writer.write`. Acks are proposed; all other changes concern only this replica."""
        if all(isinstance(change, PutAcks) for change in changes):
            return super().write(changes, size)
        if self._closed is not None:
            raise Closed(self._closed)
        done: asyncio.Future[Written] = asyncio.get_running_loop().create_future()
        self._local.append(Pending(None, changes, size, done))
        self._start()
        return done

    def _start(self) -> None:
        if self._running is None and (self._has_work() or self._store.care_due()):
            self._running = asyncio.get_running_loop().create_task(self._run(), name="log writer")

    def _has_work(self) -> bool:
        return bool(self._local) or self._may_apply() or self._may_propose()

    def _may_propose(self) -> bool:
        if self.proposer is None or self._halted or len(self._outbox) >= UNDER_WAY_MAX:
            return False
        return bool(self._queue or self._numbers.wanted or not self._announced)

    async def _run(self) -> None:
        try:
            while True:
                # Each gets its turn, however much arrives: another node's burst must not silence this one.
                applies = self._may_apply()
                if applies:
                    await self._apply_some()
                    await asyncio.sleep(0)  # what it woke appends first, and joins the next proposal
                if self._local:
                    await self._commit_local()
                elif self._may_propose():
                    await self._propose_some()
                elif applies:
                    pass
                elif self._store.care_due():
                    await self._care()
                    if self._store.care_due() and not self._has_work():
                        self._care_later()
                        break
                else:
                    break
                await asyncio.sleep(0)
        finally:
            self._running = None

    async def _propose_some(self) -> None:
        proposer = self.proposer
        assert proposer is not None
        self._announced = True
        self._spoke_s = self._ambient.monotonic_s()
        items = self._queue.take(GROUP_EVENTS_MAX, GROUP_BYTES_MAX) if self._queue else []
        parts: list[Part] = [*self._numbers.next_wanted(), *items]
        seen, bytes_max = self.agreement.last, self.sequencer.proposal_bytes_max
        made = await self._executor.run(lambda: proposer.make(parts, seen, bytes_max))
        self._tell_outcomes([pending for pending, _ in made.refused], [error for _, error in made.refused])
        if self._halted:
            lost = [part for _, _, taken in made.proposals for part in taken if isinstance(part, Pending)]
            self._tell_outcomes(lost, self._unknown(lost))
            return
        self._outbox.send(proposer, made)

    def _reached(self, trouble: str | None) -> None:
        if trouble is not None:
            self.went_away.set()
        if not self._halted:
            self._reaching.note(trouble)
            self.trouble = trouble

    def _unknown(self, items: Sequence[Pending]) -> list[Outcome]:
        return [Unavailable(f"the log cannot write: {self._closed}") for _ in items]

    def _tell_outcomes(self, items: Sequence[Pending], outcomes: Sequence[Outcome]) -> None:
        self._resolve(items, outcomes)
        tell_hearers(items, outcomes)
