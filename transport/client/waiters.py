"""Calls that wait until a stream reaches a seq: the Python client's read-your-writes. Pure."""

from huahuo.transport.client.happenings import Reached


class Waiters:
    """The awaited seqs, by stream and token."""

    def __init__(self) -> None:
        self._seqs: dict[str, dict[int, int]] = {}
        self._streams: dict[int, str] = {}
        self._count = 0

    def add(self, stream: str, seq: int) -> int:
        """Wait for event `seq`; returns the token that `Reached` will carry."""
        self._count += 1
        self._seqs.setdefault(stream, {})[self._count] = seq
        self._streams[self._count] = stream
        return self._count

    def forget(self, token: int) -> None:
        """The caller gave up waiting."""
        stream = self._streams.get(token)
        if stream is not None:
            self._remove(stream, [token])

    def reached(self, stream: str, seq: int) -> list[Reached]:
        """All events up to `seq` are processed: returns the waiters to tell."""
        if not self._seqs:
            return []
        tokens = [token for token, at in self._seqs.get(stream, {}).items() if at <= seq]
        self._remove(stream, tokens)
        return [Reached(token) for token in tokens]

    def failed(self, stream: str, error: Exception) -> list[Reached]:
        """Events awaited on this stream may never come: returns the waiters to tell."""
        tokens = list(self._seqs.get(stream, ()))
        self._remove(stream, tokens)
        return [Reached(token, error) for token in tokens]

    def _remove(self, stream: str, tokens: list[int]) -> None:
        for token in tokens:
            del self._seqs[stream][token], self._streams[token]
        if tokens and not self._seqs[stream]:
            del self._seqs[stream]
