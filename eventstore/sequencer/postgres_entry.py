"""One proposal on its way to PostgreSQL, and the future of its caller."""

import asyncio

from huahuo.eventstore.sequencer.port import InDoubt, SequencerError, Unreachable


class Entry:
    """See the module."""

    __slots__ = ("body", "future", "hint", "id", "sent")

    def __init__(self, body: bytes, proposal_id: str, future: asyncio.Future[int]) -> None:
        self.body = body
        self.id = proposal_id
        self.future = future
        self.sent = False
        self.hint = ""
        """See `InDoubt`."""

    def expire(self, stuck: str) -> None:
        """The caller has waited for long enough. `stuck`: why the commit before it may not end, or ""."""
        if self.sent:
            self.fail(InDoubt("the log has not said whether it keeps the proposal", self.hint))
        elif stuck:
            self.fail(Unreachable(f"an earlier commit has not ended: {stuck}"))
        else:
            self.fail(Unreachable("the log is busy with an earlier commit, or can't be reached"))

    def fail(self, error: SequencerError) -> None:
        """Tell the caller why, unless it knows already."""
        if not self.future.done():
            self.future.set_exception(error)
