"""A store that fails, and a way to the ordered log that fails, as a test says."""

from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from huahuo.eventstore.core.storage_port import Group, Store
from tests.support.models.memory_sequencer import MemoryOrder, MemorySequencer
from tests.support.worlds.replicas import Cluster, cluster


def failing(store: Store, patch: pytest.MonkeyPatch, error: Exception, *, behind: bool = False) -> None:
    """The next commit fails: before it wrote anything, or `behind` the moment at which it is durable."""
    commit, failures = store.commit, [error]

    def fail(group: Group) -> None:
        if not failures:
            return commit(group)
        if behind:
            commit(group)
        raise failures.pop()

    patch.setattr(store, "commit", fail)


def blind(store: Store, patch: pytest.MonkeyPatch, times: int = 1) -> None:
    """The next `times` nobody can look what is durable."""
    recover, failures = store.recover, [OSError("blind")] * times

    def look() -> Any:
        if failures:
            raise failures.pop()
        return recover()

    patch.setattr(store, "recover", look)


class Way(MemorySequencer):
    """A way to the order. `refuses`: what the next proposals get in place of an answer.

    `away`: what the next questions for the newest offset get, after `answers` of them.
    """

    def __init__(self, order: MemoryOrder) -> None:
        super().__init__(order)
        self.refuses: list[Exception] = []
        self.away: list[Exception] = []
        self.answers = 0

    async def propose(self, proposal: bytes) -> int:
        if self.refuses:
            raise self.refuses.pop(0)
        return await super().propose(proposal)

    async def last(self) -> int:
        self.answers -= 1
        if self.answers < 0 and self.away:
            raise self.away.pop(0)
        return await super().last()


def one_node() -> AbstractAsyncContextManager[Cluster]:
    """A node that reaches its order by a `Way`."""
    return cluster("a", way=lambda order, _: Way(order))
