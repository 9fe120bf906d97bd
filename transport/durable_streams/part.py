"""Some data of a stream, as an answer has it. Pure."""

import msgspec

from huahuo.transport.durable_streams.deciding import State


class Part(msgspec.Struct, frozen=True):
    """Some data of a stream. `following`: the seq to go on behind; `at_end`: nothing more was there."""

    state: State
    body: bytes
    after: int
    following: int
    at_end: bool

    @property
    def closed(self) -> bool:
        """Whether nothing will ever follow."""
        return self.at_end and self.state.closed

    @property
    def empty(self) -> bool:
        """Whether there is no data."""
        return self.following == self.after
