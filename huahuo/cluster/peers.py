"""The other nodes, as a part of this one asks them: one by its name, or all at once."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from huahuo.cluster.asking import TIMEOUT_S, Asker
from huahuo.cluster.door import NodesDoor
from huahuo.cluster.errors import NodeBegins, NodeError
from huahuo.cluster.members import Member

LIVES_S = 10.0
"""A node that said something within this time is asked."""


class Said[T](msgspec.Struct, frozen=True):
    """What became of a question to all: the answers by node, and who gave none, and why."""

    answers: dict[str, T]
    silent: dict[str, NodeError]


class Peers:
    """See the module. `members` are all nodes; `silent_s` says for how long one has said nothing."""

    def __init__(
        self,
        asker: Asker,
        door: NodesDoor,
        *,
        members: Callable[[], Mapping[str, Member]],
        silent_s: Callable[[str], float],
    ) -> None:
        self.node = asker.node
        self._asker = asker
        self._door = door
        self._members = members
        self._silent_s = silent_s

    def on[T](self, name: str, kind: type[T], handler: Callable[[str, T], Awaitable[object]]) -> None:
        """See `NodesDoor.on`."""
        self._door.on(name, kind, handler)

    def living(self, within_s: float = LIVES_S) -> list[str]:
        """The other nodes that were heard of lately."""
        return sorted(
            node
            for node, member in self._members().items()
            if node != self.node and not member.stopped and self._silent_s(node) < within_s
        )

    async def ask[T](
        self, node: str, name: str, asked: object, kind: type[T], *, timeout_s: float = TIMEOUT_S
    ) -> T:
        """The answer of one node. Raises NodeSilent, NodeRefused."""
        member = self._members().get(node)
        if member is None or not member.url:
            raise NodeBegins(node)
        return await self._asker.ask(member.url, node, name, asked, kind, timeout_s=timeout_s)

    async def ask_all[T](
        self, name: str, asked: object, kind: type[T], *, timeout_s: float = TIMEOUT_S
    ) -> Said[T]:
        """Ask all other living nodes at once. Never raises NodeError: who did not answer is part of it."""
        nodes = self.living()
        found = await asyncio.gather(
            *(self.ask(node, name, asked, kind, timeout_s=timeout_s) for node in nodes),
            return_exceptions=True,
        )
        said: Said[T] = Said({}, {})
        for node, one in zip(nodes, found, strict=True):
            if isinstance(one, NodeError):
                said.silent[node] = one
            elif isinstance(one, BaseException):
                raise one
            else:
                said.answers[node] = one
        return said
