"""Which users may still queue appends at the writer."""

from typing import Any, Final

from huahuo.eventstore.core.fair_queue import FairQueue

_OWN: Final = frozenset({"", "service"})
"""Principals of the service itself. Each of its writers waits for its answer before it goes on, so its
queue is bounded without us, and a refusal would only lose work.
"""


def has_room(queue: FairQueue[Any], owner: str, size: int, *, bytes_per_user: int, bytes_max: int) -> bool:
    """Whether a user may have `size` bytes more waiting.

    An empty line accepts one append of any size. If the bound of the process is reached, each user still
    has an even share of it, so that a few users who fill it do not lock out the others.
    """
    if owner in _OWN:
        return True
    waiting = queue.bytes_of(owner)
    if waiting and waiting + size > bytes_per_user:
        return False
    users = queue.owners + (waiting == 0)
    return queue.bytes + size <= bytes_max or waiting + size <= bytes_max // users
