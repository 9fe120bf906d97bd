"""The proposals of a node that are under way: each is proposed until it is applied."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress

from huahuo.eventstore.core.draft import Outcome
from huahuo.eventstore.core.pending import Pending
from huahuo.eventstore.errors import TooLarge, Unavailable
from huahuo.eventstore.replicated.arrivals import Arrivals
from huahuo.eventstore.replicated.proposal import Reserve
from huahuo.eventstore.replicated.proposing import Made, Proposer, Sent
from huahuo.eventstore.sequencer.port import (
    InDoubt,
    ProposalTooLarge,
    Sequencer,
    SequencerError,
    Unreachable,
)

PROPOSE_AGAIN_S = 0.1
"""The pause before a proposal whose fate is not known is proposed again."""


class Outbox:
    """See the module.

    `tell` gets pending appends with their outcomes, `want` a reservation that is to be proposed again,
    `reached` the reason why the ordered log cannot be reached, or None, and `doubt` the hint of an `InDoubt`.
    """

    def __init__(
        self, sequencer: Sequencer, arrivals: Arrivals, *,
        tell: Callable[[Sequence[Pending], Sequence[Outcome]], None],
        want: Callable[[Reserve], None],
        reached: Callable[[str | None], None],
        doubt: Callable[[str], None],
        halt: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._sequencer = sequencer
        self._arrivals = arrivals
        self._tell = tell
        self._want = want
        self._reached = reached
        self._doubt = doubt
        self._halt = halt
        self._under_way: dict[int, Sent] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._under_way)

    @property
    def waiting(self) -> set[asyncio.Future[None]]:
        """A future for each proposal under way, resolved when it is no longer."""
        return {sent.done for sent in self._under_way.values()}

    def send(self, proposer: Proposer, made: Made) -> None:
        """Propose these, in their order, behind those under way."""
        before = next(reversed(self._under_way.values()), None)
        for head, data, parts in made.proposals:
            sent = Sent(head.number, head, data, parts, asyncio.get_running_loop().create_future())
            self._under_way[sent.number] = sent
            self._task(self._deliver(proposer, sent, before))
            before = sent

    def send_once(self, proposer: Proposer, made: Made) -> None:
        """Propose these without waiting for them."""

        async def send() -> None:
            for head, data, _ in made.proposals:
                with suppress(SequencerError):
                    await self._sequencer.propose(data, proposer.incarnation.id_of(head.number))

        self._task(send())

    def take(self, number: int) -> Sent | None:
        """The proposal with this number, which is applied. The caller resolves its `done`."""
        return self._under_way.pop(number, None)

    def lose(self, reason: str) -> None:
        """No outcome of what is under way will be known here."""
        under_way = list(self._under_way.values())
        self._under_way.clear()
        for sent in under_way:
            pendings = [part for part in sent.parts if isinstance(part, Pending)]
            self._tell(pendings, [Unavailable(reason) for _ in pendings])
            sent.done.set_result(None)

    async def close(self) -> None:
        """End what still tries to propose."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _deliver(self, proposer: Proposer, sent: Sent, before: Sent | None) -> None:
        """Propose until it is applied. One that overtook the one before it is ignored: propose it again."""
        first_id = proposer.incarnation.id_of(sent.number)
        ignored = 0
        while not sent.done.done():
            # A log that knows the id would give the place at which it was ignored, again and again.
            id_ = f"{first_id}.{ignored}" if ignored else first_id
            try:
                offset = await self._sequencer.propose(sent.data, id_)
                await self._arrivals.applied(offset)
                self._reached(None)  # not before: a log may take proposals and give none back
            except ProposalTooLarge as error:
                self._empty(proposer, sent, str(error))
            except (Unreachable, InDoubt) as error:
                if isinstance(error, Unreachable):
                    self._reached(str(error))
                else:
                    self._doubt(error.hint)
                await asyncio.sleep(PROPOSE_AGAIN_S)
            except SequencerError as error:
                self._halt(str(error))
                return
            except Unavailable:
                return
            else:
                ignored += 1
                if not sent.done.done() and before is not None and not before.done.done():
                    await asyncio.wait([before.done])
        self._reached(None)  # it is applied, also if the answer never came

    def _empty(self, proposer: Proposer, sent: Sent, reason: str) -> None:
        """The ordered log does not take it: an empty proposal takes its number."""
        pendings = [part for part in sent.parts if isinstance(part, Pending)]
        for part in sent.parts:
            if isinstance(part, Reserve):
                self._want(part)
        sent.parts = []
        sent.data = proposer.empty(sent.head)
        self._tell(pendings, [TooLarge(reason) for _ in pendings])

    def _task(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="log proposal")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
