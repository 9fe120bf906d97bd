"""The writer of a replica: what the order means to its node, from joining to its end.

All nodes' proposals come back in one order. Each is applied to the replica (`applying`), and the results of
this node's own resolve the futures of its appends (`proposing_writer`). What concerns only this replica
(keyframes, probes) is committed without being proposed.

A replica stops for good if it differs from the other nodes, if the ordered log is not what it was, or if
another process runs as this node.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress

import structlog

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.core.changes import Passed
from huahuo.eventstore.core.place import Loaded
from huahuo.eventstore.core.seal import Vault
from huahuo.eventstore.core.storage_port import Reads, Store
from huahuo.eventstore.errors import Unavailable
from huahuo.eventstore.executor import Executor
from huahuo.eventstore.replicated import birth
from huahuo.eventstore.replicated.apply import Step
from huahuo.eventstore.replicated.birth import Birth
from huahuo.eventstore.replicated.clocks import Clocks
from huahuo.eventstore.replicated.living import HEARTBEAT_S, Living, name_of
from huahuo.eventstore.replicated.newest import Newest
from huahuo.eventstore.replicated.proposal import OLDEST
from huahuo.eventstore.replicated.proposing import Incarnation, Proposer, Sent
from huahuo.eventstore.replicated.proposing_writer import ProposingWriter
from huahuo.eventstore.replicated.reaching import meanwhile
from huahuo.eventstore.sequencer.port import Sequencer, SequencerError

CLOSE_S = 5.0
"""How long closing waits for what is under way. After that the outcome of the rest is unknown."""
PARTS = 100
"""In how many steps a node that joins says how far it is."""
_log = structlog.get_logger(__name__)


class ReplicaWriter(ProposingWriter):
    """See the module."""

    def __init__(
        self, store: Store, reads: Reads, loaded: Loaded, *,
        vault: Vault, ambient: Ambient, build: str, executor: Executor,
        sequencer: Sequencer, node: str, key: bytes,
    ) -> None:  # fmt: skip
        super().__init__(
            store, reads, loaded, vault=vault, ambient=ambient, build=build, executor=executor,
            sequencer=sequencer, key=key,
        )  # fmt: skip
        self.node = node
        self.trouble = "this node has not read the ordered log yet"
        self._log_id, self._key = loaded.log_id, key
        self.clocks = Clocks()
        self.newest = Newest(sequencer)
        self._living = Living()
        self._tasks: set[asyncio.Task[None]] = set()
        self._joined: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task(self._arrivals.follow(self.shared.offset), "log follower")
        self._task(self._join(), "log joining")

    @property
    def incarnation(self) -> str:
        """See `Log.incarnation`. Nameless until it begins."""
        me = None if self.proposer is None else self.proposer.incarnation
        return f"{self.node}.?" if me is None else name_of(me.node, me.epoch)

    def living(self) -> frozenset[str]:
        """See `Log.living`."""
        return self._living.names(self.shared.members) | {self.incarnation}

    # What callers see.

    async def joined(self) -> None:
        """Wait until this node has applied what was ordered when it started, and its incarnation began.

        Raises:
            Unavailable: this replica stopped.
        """
        await asyncio.wait((self._joined,))  # and it goes on if the one who waits is cancelled
        self._joined.result()

    async def applied(self, offset: int) -> None:
        """Wait until the proposal at `offset` is applied here. Raises as `joined`."""
        self._must_run()
        await self._arrivals.applied(offset)

    @property
    def format(self) -> int:
        """The newest format of proposals that this node knows."""
        return self._codec.newest

    def write_format(self, version: int) -> None:
        """Write this format from now on, or the newest or oldest that this node writes."""
        self._codec.writes = max(OLDEST, min(version, self._codec.newest))

    def told(self, offset: int) -> Passed | None:
        """What this replica had after the proposal at `offset`; None if that is too long ago, or to come."""
        return self.agreement.at(offset)

    async def tell_birth_again(self) -> int:
        """Put the log's birth in order once more, so that all before it can be trimmed. Returns its offset.

        Raises:
            SequencerError: as `Sequencer.propose`.
        """
        again = Birth(birth.FORMAT, self._log_id, self._vault.mark())
        return await self.sequencer.propose(
            birth.dump_again(again, self._key), f"birth.{self.node}.{self._ambient.token(8)}"
        )

    async def trim(self, before: int) -> None:
        """Let the ordered log forget what is before a birth told again. Raises as `Sequencer.trim`."""
        await self.sequencer.trim(before)

    def take(self, counter: str, count: int) -> int:
        """See `Log.take`."""
        return self._numbers.take(counter, count)

    async def reserve(self, counter: str, count: int) -> None:
        """See `Log.reserve`."""
        self._must_run()
        await self._numbers.reserve(counter, count)

    async def settled(self) -> None:
        """Wait until nothing of this node waits or is under way, at most `CLOSE_S`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                while waiting := self._waiting():
                    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                    await asyncio.sleep(0)

    def _waiting(self) -> set[asyncio.Future[None]]:
        waiting = self._outbox.waiting
        if self._running is not None and not self._running.done():
            waiting.add(self._running)
        return waiting

    async def close(self) -> None:
        """Propose what waits, then release the store and the sequencer. Call once."""
        self.stop()
        await self.settled()
        self._end("the log has been closed")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._outbox.close()
        await super().settled()
        if self._care_timer is not None:
            self._care_timer.cancel()
        await self.sequencer.close()
        await self._executor.run(self._store.close)

    # Starting.

    async def _join(self) -> None:
        """Apply what was ordered before this node started; then begin its incarnation, and keep it alive."""
        before = self.shared.offset  # while the answer comes, newer proposals may be applied
        try:
            last = await self._arrivals.ask_last(self._reached)
        except SequencerError as error:
            self.halt(str(error))
            return
        if last < before:
            self.halt(
                f"the ordered log ends at {last}, and this node has applied {before} proposals:"
                " the log went back, or is another one"
            )
            return
        try:
            for part in range(PARTS + 1):
                upto = before + (last - before) * part // PARTS
                if self.shared.offset < upto:
                    await meanwhile(self.applied(upto), lambda: self._tell_progress(last), HEARTBEAT_S)
            self._must_run()
        except Unavailable:
            return
        member = self.shared.members.get(self.node)
        epoch = 1 if member is None else member.epoch + 1
        self.proposer = Proposer(
            Incarnation(self.node, epoch, self._ambient.token(8)),
            lookup=self._store, vault=self._vault, ambient=self._ambient, codec=self._codec,
            build=self._build,
        )  # fmt: skip
        self.trouble = None
        self._living.begin(self.shared.members, self._ambient.monotonic_s())
        self._start()
        while not self._halted:
            await asyncio.sleep(HEARTBEAT_S)
            self._look_whether_it_answers()
            if self._ambient.monotonic_s() - self._spoke_s >= HEARTBEAT_S and not self._outbox:
                self._announced = False
                self._start()

    def _tell_progress(self, last: int) -> None:
        """How far this node is until it has joined, and what keeps the order from arriving."""
        self._must_run()  # why it stopped stays told
        why = self.sequencer.trouble
        self._reaching.note(why or None)
        self.trouble = (
            f"this node applies what was ordered before it started: {self.shared.offset} of {last}"
            f"{f'; {why}' if why else ''}"
        )

    def _look_whether_it_answers(self) -> None:
        silence = self._reaching.silence(
            waits=bool(self._outbox), arrives=bool(len(self._arrivals)), trouble=self.trouble,
            why=self.sequencer.trouble,
        )  # fmt: skip
        if silence is not None:
            self._reached(silence)

    # What was applied.

    def _meet(self, step: Step) -> Sent | None:
        """What a step means to this node. Returns its own proposal that is now applied, if it is one."""
        proposal, proposer = step.proposal, self.proposer
        if proposal is None:
            if not step.is_birth:
                _log.warning("proposal_ignored", offset=step.offset, reason="damaged, or of another log")
            return None
        if step.applied:
            self._living.hear(proposal.node, proposal.epoch, self._ambient.monotonic_s())
        if proposal.node != self.node:
            self.agreement.hear(proposal.node, proposal.seen)
            self.clocks.hear(proposal.node, proposal.clock_ms, self._ambient)
            return None
        if proposer is None or not step.applied:
            return None
        me = proposer.incarnation
        if proposal.epoch < me.epoch:
            return None  # an earlier life of this node was still under way; ours ends it
        if (proposal.epoch, proposal.token) != (me.epoch, me.token):
            self.halt(
                f"another process runs as the node {self.node}: stop one of them, and start the other again;"
                " or give one another name (--node) and an empty --data"
            )
            return None
        proposer.forget(proposal.number)
        self._reaching.answered()
        if not self._joined.done():
            self._joined.set_result(None)
        return self._outbox.take(proposal.number)

    def _judge(self) -> None:
        verdict = self.agreement.verdict()
        if verdict == "agreed":
            return
        others = ", ".join(self.agreement.differing)
        if verdict == "others differ":
            _log.error("replicas_differ", nodes=others)
            return
        if self.proposer is not None:  # the others judge too; no task waits for it
            farewell = self.proposer.make((), self.agreement.last, 0)
            self._outbox.send_once(self.proposer, farewell)
        reason = (
            f"the history of this node differs from that of {others}: it serves nothing new; keep a copy of"
            " its directory before you rebuild it from a node that is right"
        )
        self.differed(reason)
        self.halt(reason)

    # Stopping.

    def halt(self, reason: str) -> None:
        """Apply and propose nothing any more, for good."""
        if not self._halted:
            self.trouble = reason
            _log.error("replica_stopped", reason=reason)
            self._end(reason)

    def _end(self, reason: str) -> None:
        """Whoever waits is told that the outcome is unknown."""
        if self._halted:
            return
        self._halted = True
        self._closed = self._closed or reason
        self._outbox.lose(f"the log cannot write: {self._closed}")
        if self._queue:
            waiting = self._queue.take(1 << 62, 1 << 62)
            self._tell_outcomes(waiting, self._unknown(waiting))
        self._numbers.end(reason)
        self._arrivals.end(reason)
        if not self._joined.done():
            self._joined.set_exception(Unavailable(reason))
            self._joined.exception()  # it counts as retrieved, so asyncio does not log it

    def _must_run(self) -> None:
        if self._halted:
            raise Unavailable(f"the log cannot write: {self._closed}")

    def _task(self, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
