"""Bytes that sockets hold, summed by address, and who must go when they are too many. Pure."""

import heapq
from collections.abc import Iterator


class HeldBytes[S]:
    """How many bytes each socket holds."""

    def __init__(self) -> None:
        self.total = 0
        self._of_address: dict[str, dict[S, int]] = {}
        self._sums: dict[str, int] = {}

    def put(self, socket: S, address: str, count: int) -> None:
        """The socket, of this address, now holds `count` bytes. With 0 it is forgotten."""
        held = self._of_address.setdefault(address, {})
        change = count - held.pop(socket, 0)
        if count:
            held[socket] = count
        self.total += change
        self._sums[address] = self._sums.get(address, 0) + change
        if not held:
            del self._of_address[address], self._sums[address]

    def drop(self, socket: S, address: str) -> int:
        """Forget the socket; returns what it held."""
        held = self._of_address.get(address)
        count = 0 if held is None else held.get(socket, 0)
        if count:
            self.put(socket, address, 0)
        return count

    def too_many(self, bytes_max: int) -> Iterator[S]:
        """Sockets to end until the others hold at most `bytes_max`: always the fullest address's fullest.

        It looks once at all addresses, however many must go, and at the sockets of those that lose one.
        """
        left = self.total
        fullest = [(-count, address) for address, count in self._sums.items()]
        heapq.heapify(fullest)
        lines: dict[str, list[tuple[int, S]]] = {}
        while left > bytes_max and fullest:
            below, address = fullest[0]
            if address not in lines:
                lines[address] = sorted(
                    ((count, socket) for socket, count in self._of_address[address].items()),
                    key=lambda line: line[0],
                )
            count, socket = lines[address].pop()
            left -= count
            heapq.heapreplace(fullest, (below + count, address))
            yield socket
