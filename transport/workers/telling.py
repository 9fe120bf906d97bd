"""Tells all workers of commits. A commit is encoded once, however many workers there are.

It leaves at once: thousands who waited for the commit may have the loop next, and meanwhile the workers hand
it out.
"""

from collections.abc import Callable, Iterable, Sequence

from huahuo.eventstore.core.receipts import is_receipt
from huahuo.eventstore.model import StoredEvent
from huahuo.eventstore.port import Log
from huahuo.transport.workers.columns import columns_of
from huahuo.transport.workers.desk import Desk
from huahuo.transport.workers.messages import Commit, Pruned, encode


def tell_commits(log: Log, desks: Callable[[], Iterable[Desk]]) -> Callable[[], None]:
    """Tell the `desks` of each commit from now on; the result ends that."""

    def committed(events: Sequence[StoredEvent]) -> None:
        data = encode(Commit(columns_of(events)))
        pruned = any(map(is_receipt, events))
        for desk in desks():
            desk.pipe.send_at_once(data)
            if pruned:
                desk.say(Pruned())

    return log.listen(committed)
