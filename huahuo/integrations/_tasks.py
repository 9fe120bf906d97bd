"""A task of a queue as a job that its user watches: what is reported goes to the queue's own record too."""

from collections.abc import Callable
from typing import Any

from huahuo.publisher.job import LEASE_S, RemoteJob, UserId
from huahuo.publisher.publisher import Publisher

type Record = Callable[[float, str], object]
"""Keeps a progress where the queue's own tools look for it."""


class TaskJob(RemoteJob):
    """See the module."""

    def __init__(
        self, publisher: Publisher, name: str, user: UserId | None, record: Record, lease_s: float = LEASE_S
    ) -> None:
        super().__init__(publisher, name, user, lease_s)
        self._record = record

    def progress(self, percent: float, message: str = "") -> None:
        """See `RemoteJob.progress`."""
        super().progress(percent, message)
        self._record(percent, message)

    def steps(self, items: Any, total: int | None = None) -> Any:
        """Give the items one by one, and report how many are done. `total`: where `len` says nothing."""
        count = len(items) if total is None else total
        for number, item in enumerate(items):
            self.progress(100 * number / count, f"{number} of {count}")
            yield item
        self.progress(100, f"{count} of {count}")
