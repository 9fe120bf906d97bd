"""The port of an ordered log: what a replicated log must offer so that several nodes agree on one order.

A proposal is what one node wants to commit next, as bytes. The log gives it an offset; each node applies the
proposals by rising offset to its own replica. The log never looks into a proposal.

One contract suite runs over every implementation (`tests/contract/test_sequencer.py`).
"""

from collections.abc import AsyncGenerator
from typing import NamedTuple, Protocol


class Ordered(NamedTuple):
    """A proposal at its place: the first has offset 1, each next one is one higher."""

    offset: int
    proposal: bytes


class Sequencer(Protocol):
    """One ordered log, as one node sees it. All calls are made on one event loop and may overlap.

    Calls of `propose` that overlap may be put in any order; it goes faster if that is the order of the calls.
    A call that was cancelled may have its effect all the same.
    """

    @property
    def proposal_bytes_max(self) -> int:
        """Nodes cut their proposals below this size. Only an append that is larger alone comes as one."""
        ...

    @property
    def trouble(self) -> str:
        """Why the log can't be read now; "" if it can."""
        ...

    async def propose(self, proposal: bytes) -> int:
        """Put `proposal` in order; returns its offset once the log keeps it durably.

        Proposed again, it gets a second offset: nodes must recognise it by its content.

        Raises:
            InDoubt: whether it has an offset is not known. It may still get one.
            Unreachable: it has no offset and gets none by this call.
            ProposalTooLarge: the log takes no proposal of this size.
        """
        ...

    def follow(self, after: int) -> AsyncGenerator[Ordered]:
        """The proposals with offset > `after`, in order and without a gap, those to come included.

        It waits while the log cannot be reached and goes on by itself. Ends by `aclose` of the iterator.

        Raises:
            Trimmed: the log no longer keeps offset `after` + 1.
            Misconfigured: the log is another one now, or does not keep what it acknowledged.
        """
        ...

    async def last(self) -> int:
        """The offset of the newest durable proposal, asked of the log itself, never of a cache; 0 if empty.

        Raises:
            Unreachable: the log does not answer.
        """
        ...

    async def trim(self, before: int) -> None:
        """Let the log forget proposals with offset < `before`. Trimming what is gone is no error.

        Raises:
            Unreachable: the log does not answer; it may have trimmed.
        """
        ...

    async def close(self) -> None:
        """Let go of connections. Calls under way end with Unreachable or InDoubt."""
        ...


class SequencerError(Exception):
    """The ordered log could not do what was asked. The text says what to do and holds no credential."""


class Unreachable(SequencerError):  # noqa: N818  the condition is the name
    """The log does not answer, and nothing was put in order by this call."""


class InDoubt(SequencerError):  # noqa: N818  the condition is the name
    """The answer was lost: the proposal may be in order, or get there later.

    `hint`: what may be wrong with the log if that goes on; "" if nothing is known.
    """

    def __init__(self, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.hint = hint


class ProposalTooLarge(SequencerError):  # noqa: N818  the condition is the name
    """The proposal is larger than the log takes. The text names the bound in bytes."""


class Trimmed(SequencerError):  # noqa: N818  the condition is the name
    """The log no longer keeps the asked offset: a copy of another node's directory is needed.

    `first`: the oldest offset that it keeps.
    """

    def __init__(self, text: str, first: int) -> None:
        super().__init__(text)
        self.first = first


class Misconfigured(SequencerError):  # noqa: N818  the condition is the name
    """The log may lose or reorder what it acknowledged, as it is set up. The text has the line to change."""


def another_now(address: object) -> str:
    """What a node says that finds another log at its address than before."""
    return (
        f"the log at {address} is another one now than when this process began: bring that one back, and"
        " start this node again"
    )
