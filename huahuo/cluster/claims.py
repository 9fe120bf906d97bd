"""The event that a node writes to take, leave or divide the work. Pure.

Each function is given the state of `holder`, and returns None where there is nothing to write.
"""

from collections.abc import Iterable

from huahuo.cluster import holder
from huahuo.cluster.holder import Holder
from huahuo.eventstore.model import NewEvent


def taking(state: Holder, node: str, before: str) -> NewEvent | None:
    """`node` takes the work from `before`, unless another node was faster."""
    return holder.taken(node) if state.node == before else None


def leaving(state: Holder, node: str) -> NewEvent | None:
    """`node` leaves what it has to the others."""
    if state.node == node:
        return holder.left(node)
    if node in state.nodes:
        return holder.divided(tuple(one for one in state.nodes if one != node))
    return None


def dividing(state: Holder, node: str, able: Iterable[str]) -> NewEvent | None:
    """`node`, if it has the work, divides it among itself and those that are `able` to do a part."""
    found = tuple(sorted({node, *able}))
    return None if state.node != node or found == state.nodes else holder.divided(found)
