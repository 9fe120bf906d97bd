"""Who waits until a place of a stream is reached: the Python client's read-your-writes. Pure."""

from huahuo.transport.client.happenings import Reached


class Waiters:
    """Places (stream, seq) by token."""

    def __init__(self) -> None:
        self._places: dict[int, tuple[str, int]] = {}
        self._count = 0

    def add(self, stream: str, seq: int) -> int:
        """Wait for event `seq`; gives the token that `Reached` will carry."""
        self._count += 1
        self._places[self._count] = (stream, seq)
        return self._count

    def forget(self, token: int) -> None:
        """Nobody waits any more."""
        self._places.pop(token, None)

    def reached(self, stream: str, seq: int) -> list[Reached]:
        """Everything up to `seq` is done."""
        return [Reached(token) for token in self._remove(stream, seq)]

    def failed(self, stream: str, error: Exception) -> list[Reached]:
        """What is awaited of this stream may never come."""
        return [Reached(token, error) for token in self._remove(stream, None)]

    def _remove(self, stream: str, seq: int | None) -> list[int]:
        if not self._places:
            return []
        tokens = [t for t, (of, at) in self._places.items() if of == stream and (seq is None or at <= seq)]
        for token in tokens:
            del self._places[token]
        return tokens
