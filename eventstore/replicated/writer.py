"""The writer of a replica: it applies what was ordered, commits, proposes and takes care, each in its turn.

    queue ── proposals, several under way ──▶ Sequencer ── one order ──▶ apply, commit, resolve

Appends gather as in `huahuo.eventstore.core.writer`; a group becomes one or more proposals, cut by their
encoded size. In doubt about a proposal, the node proposes the same number again: only the next number of
an incarnation is applied, so nothing happens twice. All nodes' proposals come back in one order. Several
are applied in one commit, and the results of this node's own resolve the futures of its appends. What
concerns only this replica (keyframes, probes) is committed without being proposed.

A replica that cannot apply an offset tries the same one again and serves nothing newer. It stops for good
if its own rows are damaged, if it differs from the other nodes, if the ordered log is not what it was, or
if another process runs as this node.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress

import structlog

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.core.draft import Draft, Outcome
from huahuo.eventstore.core.seal import Vault
from huahuo.eventstore.core.storage_port import Change, Group, Loaded, Passed, PutAcks, Reads, Store
from huahuo.eventstore.core.writer import (
    GROUP_BYTES_MAX,
    GROUP_EVENTS_MAX,
    Commit,
    Pending,
    Writer,
    Written,
    tell_hearers,
    tell_listeners,
)
from huahuo.eventstore.errors import Closed, Corrupt, Detached, EventStoreError, InUse, Unavailable
from huahuo.eventstore.executor import Executor
from huahuo.eventstore.model import Appended, StoredEvent
from huahuo.eventstore.replicated import proposal
from huahuo.eventstore.replicated.order_reader import Arrivals, Newest, Reaching, meanwhile, must_go_on
from huahuo.eventstore.replicated.outbox import Incarnation, Outbox, Part, Proposer, Reservations, Sent
from huahuo.eventstore.replicated.peers import HEARTBEAT_S, Agreement, Clocks, Living, name_of
from huahuo.eventstore.replicated.proposal import OLDEST, Birth, Codec, NewerFormat, Reserve
from huahuo.eventstore.replicated.state_machine import (
    Applied,
    Reserved,
    Result,
    Run,
    Step,
    apply_all,
    load_shared,
)
from huahuo.eventstore.sequencer.port import Ordered, Sequencer, SequencerError, Unreachable

APPLIED_AT_ONCE = 64
APPLIED_BYTES_MAX = 4 << 20
"""Proposals applied in one commit, and their bytes."""
ASK_AGAIN_S = 0.1
RETRY_S = 1.0
"""How long a replica that could not apply an offset waits before it tries again."""
UNDER_WAY_MAX = 4
"""Proposals of this node that may be under way: more gain nothing, since the next ones gather meanwhile."""
CLOSE_S = 5.0
"""How long closing waits for what is under way. After that the outcome of the rest is unknown."""
PROGRESS_S = 0.25
"""How often a node that joins says how far it is."""
_log = structlog.get_logger(__name__)


class ReplicaWriter(Writer):
    """The writer of a replica: what the order means to its node, from joining to its end.

    `shared` is the replicated state as of the last commit.
    """

    def __init__(
        self, store: Store, reads: Reads, loaded: Loaded, *,
        vault: Vault, ambient: Ambient, build: str, executor: Executor,
        sequencer: Sequencer, node: str, key: bytes,
    ) -> None:  # fmt: skip
        self._reason: str | None = None
        self._unapplied: str | None = None
        super().__init__(store, reads, loaded, vault=vault, ambient=ambient, build=build, executor=executor)
        self.differed: Callable[[str], None] = lambda _: None
        """Told why, when this replica stops because it differs from others, or cannot follow them."""
        self.node = node
        self.trouble = "this node has not read the ordered log yet"
        self.shared = load_shared(loaded.shared)
        self.agreement = Agreement(loaded.passed)
        self.proposer: Proposer | None = None
        """None until this node knows the newest proposal and may begin its incarnation."""
        self.compared = asyncio.Event()
        """Set once the ordered log was compared with this replica's."""
        self.foreign = ""
        """Why it is not the one that this replica follows."""
        self.went_away = asyncio.Event()
        """Set once the ordered log could not be reached."""
        self.sequencer = sequencer
        self.clocks = Clocks(ambient)
        self.newest = Newest(sequencer)
        self._log_id, self._key = loaded.log_id, key
        self._codec = Codec(key, loaded.log_id)
        self._numbers = Reservations(self._start)
        self._arrivals = Arrivals(sequencer, wake=self._start, halt=self.halt)
        self._local: deque[Pending] = deque()
        self._halted = False
        self._resting = False
        self._at_once = APPLIED_AT_ONCE
        self._tried: Applied | None = None
        self._reaching = Reaching(ambient)
        self._outbox = Outbox(
            sequencer, self._arrivals, tell=self._tell_outcomes, want=self._numbers.want_again,
            reached=self._reached, doubt=self._reaching.doubt, halt=self.halt,
        )  # fmt: skip
        self._announced = False
        self._spoke_s = 0.0
        self._living = Living()
        self._tasks: set[asyncio.Task[None]] = set()
        self._joined: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task(self._join(), "log joining")

    @property
    def trouble(self) -> str | None:
        """Why nothing can be written, or nothing ordered can be applied; None if both can."""
        return self._reason or self._unapplied

    @trouble.setter
    def trouble(self, reason: str | None) -> None:
        self._reason = reason

    def _may_apply(self) -> bool:
        return len(self._arrivals) > 0 and not self._resting and not self._halted

    async def _apply_some(self) -> None:
        if self.before_commands is not None:  # a hidden record would make this replica differ from the others
            await self.before_commands()
        batch = self._arrivals.batch(self._at_once, APPLIED_BYTES_MAX)
        began_s = self._ambient.monotonic_s()
        try:
            if self._in_doubt:
                await self._find_out()
                if batch[0].offset <= self.shared.offset:
                    return
            applied = await self._executor.run(lambda: self._apply(batch))
        except Exception as error:  # noqa: BLE001  whatever it was, the same offset is applied again
            await self._not_applied(error)
        else:
            if self.observe is not None and (applied.draft.events or applied.draft.changes):
                self.observe(self._ambient.monotonic_s() - began_s)
            self._finish(applied)

    def _apply(self, batch: Sequence[Ordered]) -> Applied:
        """A job: apply and commit. While it runs, the loop changes nothing that it uses."""
        began_s = self._ambient.thread_s()
        self._tried = None
        draft = Draft(self.place, self._store, "", self.shared.time_ms)
        run = Run(draft, self.shared, self._counters, self._first_number, self._codec)
        self._tried = applied = apply_all(run, draft, batch)
        self._store.commit(applied.group())
        applied.spent_s = self._ambient.thread_s() - began_s
        return applied

    def _finish(self, applied: Applied) -> None:
        """A batch is durable: what was sent from here ends as `Writer._settle` says."""
        self._tried = None
        self._unapplied = None
        self._at_once = APPLIED_AT_ONCE
        self.shared = applied.shared
        self._counters.update(applied.counters)
        items: list[Pending] = []
        outcomes: list[Outcome] = []
        ended: list[Sent] = []
        for step, passed in zip(applied.steps, applied.passed, strict=True):
            self.agreement.add(passed)
            sent = self._meet(step)
            if sent is not None:
                ended.append(sent)
                for part, result in zip(sent.parts, step.results, strict=False):
                    self._take_result(part, result, items, outcomes)
        draft = applied.draft
        newest = {event.stream: event for event in draft.events}
        self._settle(
            items,
            Commit(
                outcomes, draft.events, newest, draft.firsts, draft.ended,
                draft.position, draft.chain, True, applied.spent_s, draft.horizons, draft.touched,
            ),
        )  # fmt: skip
        for sent in ended:
            sent.done.set_result(None)
        self._arrivals.drop(self.shared.offset)
        self._judge()

    def _take_result(self, part: Part, result: Result, items: list[Pending], outcomes: list[Outcome]) -> None:
        if isinstance(part, Reserve):
            assert isinstance(result, Reserved), "results are in the order of the parts"
            self._numbers.came(result)
        else:
            assert not isinstance(result, Reserved), "results are in the order of the parts"
            items.append(part)
            outcomes.append(result)

    async def _not_applied(self, error: Exception) -> None:
        """Nobody is told anything, because the same offset is applied again."""
        known = isinstance(error, EventStoreError)
        self.failure = reason = str(error) if known else type(error).__name__
        stays = isinstance(error, NewerFormat | Corrupt)  # however often it is tried
        if isinstance(error, InUse | Detached) or (stays and self._at_once == 1):
            if isinstance(error, Corrupt):
                reason = (
                    f"{reason}. So this node cannot apply what is ordered, and serves nothing new; keep a"
                    " copy of its directory before you rebuild it from a node that is right"
                )
                self.differed(reason)
            self.halt(reason)
            return
        if not stays:
            told = f"this node cannot apply what is ordered, and tries again each second: {reason}"
            if told != self._unapplied:
                _log.error(
                    "not_applied", reason=reason, after=self.shared.offset, exc_info=None if known else error
                )
            self._unapplied = told
            self._resting = True
            asyncio.get_running_loop().call_later(RETRY_S, self._rested)
        self._at_once = 1
        self._in_doubt = True
        try:
            await self._find_out()
        except Exception as again:  # noqa: BLE001  asked again before the next try
            _log.error("recovery_failed", reason=str(again))

    def _rested(self) -> None:
        self._resting = False
        self._start()

    async def _find_out(self) -> list[StoredEvent]:
        """Take over the durable state. A commit that failed, and is durable nevertheless, is told as one."""
        found, missed = await self._executor.run(self._look)
        self._in_doubt = False
        shared, tried = load_shared(found.shared), self._tried
        if tried is not None and shared.offset == tried.shared.offset:
            self._finish(tried)
            return []
        self.place = found.place()
        self._counters = dict(found.counters)
        self.shared = shared
        self._arrivals.drop(shared.offset)
        asyncio.get_running_loop().call_soon(self._tell_of_rows, None)
        return missed

    # What concerns only this replica.

    async def _commit_local(self) -> None:
        items = list(self._local)
        self._local.clear()
        changes = [change for pending in items for change in pending.changes]
        try:
            if self._in_doubt:
                tell_listeners(self._listeners, await self._find_out())
            group = Group(self.shared.time_ms, [], changes)
            await self._executor.run(lambda: self._store.commit(group))
        except Exception as error:  # noqa: BLE001  whatever it was, the callers must hear of it
            await self._fail(items, error)
            if isinstance(error, InUse | Detached):
                self.halt(str(error))
            return
        self.failure = None
        if self.failed_bytes and sum(pending.size for pending in items) >= self.failed_bytes:
            self.failed_bytes = 0
        self._resolve(items, [Appended(self.place.position, ()) for _ in items])

    # Proposing.

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
        """Put the log's genesis record in order again: all before it can be trimmed. Returns its offset.

        Raises:
            SequencerError: as `Sequencer.propose`.
        """
        again = proposal.dump_birth(Birth(proposal.BIRTH_FORMAT, self._log_id), self._key)
        return await self.sequencer.propose(again)

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
        before = self.shared.offset
        try:
            last = await self._compare(before)
        except (SequencerError, EventStoreError) as error:
            self.foreign = str(error)
            self.halt(self.foreign)
            return
        finally:
            self.compared.set()
        self._task(self._arrivals.follow(before), "log follower")
        try:
            if self.shared.offset < last:
                await meanwhile(self.applied(last), lambda: self._tell_progress(last), PROGRESS_S)
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

    async def _compare(self, applied: int) -> int:
        """The newest offset of an ordered log that goes on from this replica. Waits until it answers."""
        while True:
            try:
                return await must_go_on(self.sequencer, self._key, self._log_id, applied)
            except Unreachable as error:
                self._reached(str(error))
                await asyncio.sleep(ASK_AGAIN_S)

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
            if proposer is not None:  # what is read of long ago says nothing of now
                self.clocks.hear(proposal.node, proposal.clock_ms)
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
            self._outbox.send_once(farewell)
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
