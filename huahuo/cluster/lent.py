"""The places that the node with the work lends: what each node wants and has, and which of it is granted.

A node tells all of it again and again, so a message that comes twice or late does no harm. One that is
silent has nothing. The next node with the work counts at once what the others have, and grants nothing new
until all living nodes have told it.
"""

import asyncio
from collections.abc import Callable, Collection

import msgspec

from huahuo.actors.plugins.lending import Take


class Want(msgspec.Struct, frozen=True, array_like=True):
    """A place that a node wants, or `has`. There are `places_max` of this key on all nodes."""

    id: str
    key: str
    places_max: int
    has: bool


class Wants(msgspec.Struct, frozen=True):
    """All that a node wants and has. `number` rises within one `process`."""

    process: str
    number: int
    wants: list[Want]


class _Loan(msgspec.Struct, eq=False):
    task: asyncio.Task[None]
    granted: bool = False


class Lent:
    """See the module. `take`: takes a place here. `granted`: hears of each place that a node gets."""

    def __init__(self, take: Take, granted: Callable[[str, str], None]) -> None:
        self._take = take
        self._granted = granted
        self._loans: dict[str, dict[str, _Loan]] = {}
        self._told: dict[str, tuple[str, int]] = {}
        """By node: its process, and the number of its newest news."""
        self._open = asyncio.Event()

    def hear(self, node: str, wants: Wants) -> None:
        """All that `node` wants and has now."""
        process, number = self._told.get(node, ("", 0))
        if process == wants.process and wants.number <= number:
            return
        self._told[node] = (wants.process, wants.number)
        loans = self._loans.setdefault(node, {})
        for gone in sorted(loans.keys() - {want.id for want in wants.wants}):
            loans.pop(gone).task.cancel()
        for want in wants.wants:
            known = loans.get(want.id)
            if known is not None and want.has and not known.granted:  # it went on without asking
                known.task.cancel()
                known = None
            if known is None:
                task = asyncio.create_task(self._lend(node, want), name=f"place for {node}")
                loans[want.id] = _Loan(task)

    def granted_to(self, node: str) -> list[str]:
        """The places that `node` has."""
        return [id_ for id_, loan in self._loans.get(node, {}).items() if loan.granted]

    def look(self, living: Collection[str], awaited: Collection[str]) -> None:
        """These nodes live. Places that others had are free. Once all `awaited` told, new ones are lent."""
        for gone in sorted(self._told.keys() - set(living)):
            self._drop(gone)
        if self._told.keys() >= set(awaited):
            self._open.set()

    def open(self) -> None:
        """Grant new places, although some nodes have not told what they have."""
        self._open.set()

    def close(self) -> None:
        """Another node has the work."""
        for node in list(self._told):
            self._drop(node)
        self._open.clear()

    def _drop(self, node: str) -> None:
        self._told.pop(node, None)
        for loan in self._loans.pop(node, {}).values():
            loan.task.cancel()

    async def _lend(self, node: str, want: Want) -> None:
        """Hold a place until it is given back, which cancels this task."""
        if not want.has:
            await self._open.wait()
        async with self._take(want.key, want.places_max, want.has):
            self._loans[node][want.id].granted = True
            self._granted(node, want.id)
            await asyncio.Event().wait()
