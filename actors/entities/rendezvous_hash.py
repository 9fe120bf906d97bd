"""Which node of several does which part of the work that they divide. Pure.

Rendezvous hashing: for each key every node has a number, and the node with the highest one does what the
key stands for. So when a node comes or goes, only what it gets, or had, moves.
"""

from collections.abc import Iterable
from hashlib import blake2b

from msgspec import Struct


class Share(Struct, frozen=True):
    """The part of `node`, where the work is divided among `nodes`: nothing, if it is none of them."""

    node: str = ""
    nodes: tuple[str, ...] = ()

    @property
    def is_nothing(self) -> bool:
        """Whether this node does nothing of it."""
        return self.node not in self.nodes

    def has(self, key: str) -> bool:
        """Whether this node does the work of this key."""
        if self.is_nothing:
            return False
        return len(self.nodes) == 1 or max(self.nodes, key=lambda node: _weight(node, key)) == self.node

    def running(self, incarnations: Iterable[str]) -> frozenset[str]:
        """Of these incarnations (`web-1.7`) those of nodes that do a part. What others claimed is left."""
        return frozenset(name for name in incarnations if name.rpartition(".")[0] in self.nodes)


class _Whole(Share, frozen=True):
    """All of it: the service is alone."""

    def has(self, key: str) -> bool:
        """See `Share`."""
        del key
        return True

    def running(self, incarnations: Iterable[str]) -> frozenset[str]:
        """See `Share`."""
        return frozenset(incarnations)


WHOLE = _Whole("", ("",))
NOTHING = Share()


def _weight(node: str, key: str) -> bytes:
    return blake2b(f"{node}\n{key}".encode(), digest_size=8).digest()
