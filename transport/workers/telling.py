"""Tells all workers of commits. A commit is encoded, and if it is large written, once for all of them."""

from collections.abc import Callable, Iterable, Sequence

from huahuo.eventstore.core.receipts import is_receipt
from huahuo.eventstore.model import StoredEvent
from huahuo.eventstore.port import Log
from huahuo.transport.workers.board import Board
from huahuo.transport.workers.desk import Desk
from huahuo.transport.workers.messages import Commit, Pruned, columns_of, encode


def tell_commits(
    log: Log, desks: Callable[[], Iterable[Desk]], board: Board | None = None
) -> Callable[[], None]:
    """Tell the `desks` of each commit from now on; the result ends that."""

    def committed(events: Sequence[StoredEvent]) -> None:
        data = encode(Commit(columns_of(events)))
        pruned = any(map(is_receipt, events))
        told = [desk for desk in desks() if desk.pipe.is_open]
        if board is not None and (lies := board.put(data, told)) is not None:
            data = encode(lies)
        for desk in told:
            desk.pipe.send_encoded(data)
            if pruned:
                desk.say(Pruned())

    return log.listen(committed)
