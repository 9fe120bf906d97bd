"""The way to an ordered log that must be the one which this directory follows.

A directory that holds a replica is opened before its ordered log answers, so that it can be read meanwhile.
Once the ordered log answers, its birth is compared with the directory's log before anything is applied or
proposed.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

from huahuo.eventstore.replicated import birth
from huahuo.eventstore.sequencer.port import Misconfigured, Ordered, Sequencer, Trimmed

CHECK_S = 10.0
"""How long the ordered log may take for its first proposal, once it has said that it has one."""


class SameOrder:
    """A `Sequencer` in front of another one. See the module."""

    def __init__(self, inner: Sequencer, log_id: str, applied: int) -> None:
        """`log_id` and `applied`: the directory's log, and the last offset that it has applied."""
        self._inner = inner
        self._log_id = log_id
        self._applied = applied
        self._checking = asyncio.Lock()
        self._checked = False

    @property
    def trouble(self) -> str:
        """See `Sequencer`."""
        return self._inner.trouble

    @property
    def proposal_bytes_max(self) -> int:
        """See `Sequencer`."""
        return self._inner.proposal_bytes_max

    async def check(self) -> None:
        """Compare once.

        Raises:
            Unreachable: the ordered log does not answer.
            Misconfigured: it is another one, or went back.
        """
        async with self._checking:
            if self._checked:
                return
            last = await self._inner.last()
            if last < self._applied:
                raise Misconfigured(
                    f"the ordered log ends at offset {last}, and this directory has applied {self._applied}"
                    " proposals: it is another log, or it went back (docs/scaling.md)"
                )
            found = await self._born(last)
            if found not in {self._log_id, None}:
                raise Misconfigured(
                    f"this directory holds the log {self._log_id}, and the ordered log is that of"
                    f" {found}: use the address or the --data that belongs to it"
                )
            self._checked = True

    async def propose(self, proposal: bytes, proposal_id: str) -> int:
        """See `Sequencer`."""
        if not self._checked:
            await self.check()
        return await self._inner.propose(proposal, proposal_id)

    async def follow(self, after: int) -> AsyncGenerator[Ordered]:
        """See `Sequencer`."""
        ordered = self._inner.follow(after)
        try:
            async for one in ordered:
                if not self._checked:
                    await self.check()
                yield one
        finally:
            await ordered.aclose()

    async def last(self) -> int:
        """See `Sequencer`."""
        if not self._checked:
            await self.check()
        return await self._inner.last()

    async def trim(self, before: int) -> None:
        """See `Sequencer`."""
        await self._inner.trim(before)

    async def close(self) -> None:
        """See `Sequencer`."""
        await self._inner.close()

    async def _born(self, last: int) -> str | None:
        """The id of the ordered log, by its birth or, once it was trimmed, by one that was told again.

        None if it holds neither, as after a trim by hand, which is no sign of another log.
        """
        after = 0
        while True:
            births = _Births(self._log_id)
            ordered = self._inner.follow(after)
            try:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CHECK_S):
                        await births.read(ordered, last)
            except Trimmed as error:
                after = error.first - 1
            else:
                return births.found
            finally:
                await ordered.aclose()


class _Births:
    """Looks for the birth that counts: the first one; of those told again, that of the log `log_id` if any.

    A birth that was told again may be of another key, and so of another log.
    """

    def __init__(self, log_id: str) -> None:
        self.found: str | None = None
        self._log_id = log_id

    async def read(self, ordered: AsyncIterator[Ordered], last: int) -> None:
        """Read the order up to `last`, or until it is known."""
        async for one in ordered:
            born = birth.load(one.proposal)
            if born is not None and self.found is None:
                self.found = born.log_id
                return
            again = birth.load_again(one.proposal, b"")
            told = None if again is None else again[0].log_id
            if told == self._log_id or self.found is None:
                self.found = told
            if self.found == self._log_id or one.offset >= last:
                return
