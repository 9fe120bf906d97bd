"""What a decision must know besides the state, and must be read first."""

from huahuo.eventstore.port import Log


class Missing(Exception):  # noqa: N818  a request, not a fault
    """Raised by `decide`: it must know more. The entity reads it and decides again."""

    async def read(self, log: Log) -> None:
        """Read it, and keep it where the next `decide` finds it. Raises Closed, Unavailable."""
