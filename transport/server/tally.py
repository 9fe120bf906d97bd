"""What all connections of a server wrote. Plain numbers, because they change often; a scrape reads them."""


class Tally:
    """See the module."""

    __slots__ = ("events", "size_bytes")

    def __init__(self) -> None:
        self.events = 0
        self.size_bytes = 0
