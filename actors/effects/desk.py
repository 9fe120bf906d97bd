"""Where the runs of one entity's effects write, one after the other, knowing where the books stand.

All of them expect the head of one stream. In turn, none is in another's way; only the entity itself, when it
asks for an effect or cancels some, makes them look into the books again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from huahuo.actors.effects.book import Book, why_over
from huahuo.actors.effects.books import RunOver
from huahuo.actors.effects.facts import KIND, Guard, stream_of
from huahuo.actors.effects.spec import Answered
from huahuo.actors.entities.directory import Directory
from huahuo.actors.entities.entity import Query
from huahuo.actors.entities.errors import Busy

LOOKS_MAX = 8
"""How often a run looks into the books when the entity keeps writing there."""


class Claimant(Protocol):
    """A run that has claimed its effect. `over`: why it may say nothing more, or ""."""

    effect: int
    claim: int
    over: str


class Desk:
    """See the module. `users`: effects of the entity that are being run."""

    def __init__(self, entity: str, directory: Directory) -> None:
        self.users = 0
        self.lock = asyncio.Lock()
        self._stream = stream_of(entity)
        self._entity = entity
        self._directory = directory
        self._seq = 0
        self._claimants: dict[int, Claimant] = {}

    def claimed(self, claimant: Claimant) -> None:
        """A run has begun. The caller holds the lock since before the claim."""
        if not self._claimants:
            self._seq = claimant.claim  # nobody else can have missed what came before
        self.wrote(claimant.claim)
        self._claimants[claimant.effect] = claimant

    def left(self, claimant: Claimant) -> None:
        """The run is over."""
        if self._claimants.get(claimant.effect) is claimant:
            del self._claimants[claimant.effect]

    def wrote(self, seq: int) -> None:
        """The holder of the lock has written the event `seq`. Where others wrote before it, we must look."""
        if seq == self._seq + 1:
            self._seq = seq

    async def guarded(
        self, claimant: Claimant, append: Callable[[Guard], Awaitable[Answered]], *, writes: int = 0
    ) -> Answered:
        """Append under the guard of this claim. `writes`: the number of events for the books.

        Raises:
            RunOver: the run may say nothing more. Busy: the entity kept writing into the books.
        """
        async with self.lock:
            for _ in range(LOOKS_MAX):
                if claimant.over:
                    raise RunOver(claimant.over)
                answered = await append(Guard(self._stream, self._seq))
                if answered is Answered.DONE:
                    self._seq += writes
                if answered is not Answered.MOVED:
                    return answered
                await self._look()
        raise Busy(f"{self._stream} changed too often")

    async def _look(self) -> None:
        """Learn where the books stand, and which runs they still name."""
        claims = [(claimant.effect, claimant.claim) for claimant in self._claimants.values()]

        def look(seq: int, book: Book) -> tuple[int, list[str]]:
            return seq, [why_over(book, effect, claim) for effect, claim in claims]

        asked: Query[Book, tuple[int, list[str]]] = Query(look)
        self._seq, verdicts = await self._directory.ask(KIND, self._entity, asked)
        for (effect, claim), why in zip(claims, verdicts, strict=True):
            claimant = self._claimants.get(effect)
            if claimant is not None and claimant.claim == claim:
                claimant.over = claimant.over or why
