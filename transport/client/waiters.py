"""Calls that wait until a stream reaches a seq: the Python client's read-your-writes. Pure."""

from huahuo.transport.client.happenings import Reached


class Waiters:
    """The awaited places (stream, seq) by token."""

    def __init__(self) -> None:
        self._places: dict[int, tuple[str, int]] = {}
        self._count = 0

    def add(self, stream: str, seq: int) -> int:
        """Wait for event `seq`; returns the token that `Reached` will carry."""
        self._count += 1
        self._places[self._count] = (stream, seq)
        return self._count

    def forget(self, token: int) -> None:
        """The caller gave up waiting."""
        self._places.pop(token, None)

    def reached(self, stream: str, seq: int) -> list[Reached]:
        """All events up to `seq` are processed: returns the waiters to tell."""
        return [Reached(token) for token in self._remove(stream, seq)]

    def failed(self, stream: str, error: Exception) -> list[Reached]:
        """Events awaited on this stream may never come: returns the waiters to tell."""
        return [Reached(token, error) for token in self._remove(stream, None)]

    def _remove(self, stream: str, seq: int | None) -> list[int]:
        if not self._places:
            return []
        tokens = [t for t, (of, at) in self._places.items() if of == stream and (seq is None or at <= seq)]
        for token in tokens:
            del self._places[token]
        return tokens
