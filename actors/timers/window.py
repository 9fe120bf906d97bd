"""The next timers in memory, and how far they are complete. Pure.

Invariant: every pending timer whose key is at most `edge` is here, is being fired, or was told to `add`
while a page was being read. `edge` None: all pending timers are here.

Firings that failed and wait to be tried again: how long, and how many may wait. Pure.
"""

from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush

from huahuo.actors.timers.timer import DUE_BYTES, Timer, which

_DEAD_MAX = 64


class Window:
    """See the module. It holds up to about twice `timers_max`."""

    def __init__(self, timers_max: int) -> None:
        self._max = timers_max
        self._heap: list[tuple[bytes, Timer]] = []
        self._live: dict[bytes, Timer] = {}
        """By who and which. What is in the heap and not here was replaced or ended."""
        self._heard: dict[bytes, Timer] | None = None
        """Timers beyond the edge that were told while a page was being read."""
        self._moved = False
        """The edge went back while a page was being read."""
        self.edge: bytes | None = b""

    def __len__(self) -> int:
        return len(self._live)

    @property
    def reading(self) -> bool:
        """Whether a page is on its way."""
        return self._heard is not None

    @property
    def wants_page(self) -> bool:
        """Whether the next page of the table should be read now."""
        if self.edge is None or self.reading:
            return False
        return not self.edge or len(self._live) <= self._max // 2

    def next_due_ms(self) -> int | None:
        """When the first timer that is here is due."""
        self._bury()
        return self._heap[0][1].due_ms if self._heap else None

    def pop(self, now_ms: int, count: int) -> list[tuple[bytes, Timer]]:
        """Take out the first timers that are due, at most `count`, with their keys."""
        heap, live = self._heap, self._live
        due: list[tuple[bytes, Timer]] = []
        while heap and len(due) < count:
            first = heap[0]
            if first[1].due_ms > now_ms:
                break
            heappop(heap)
            name_key = first[0][DUE_BYTES:]
            if live.get(name_key) is first[1]:
                del live[name_key]
                due.append(first)
        return due

    def add(self, timer: Timer) -> None:
        """A timer was set, in place of one of the same name."""
        key = timer.key
        self._live.pop(which(key), None)
        if self.edge is None or key <= self.edge:
            self._push(key, timer)
            if len(self._live) > 2 * self._max:
                self._cut()
        elif self._heard is not None:
            self._heard[which(key)] = timer

    def remove(self, key: bytes) -> Timer | None:
        """The timer with this key ended. Returns it, if it was here."""
        found = self._live.get(which(key))
        if found is None or found.key != key:
            return None
        del self._live[which(key)]
        return found

    def keep(self, wanted: Callable[[Timer], bool]) -> None:
        """Of the timers that are here, keep only these."""
        self._live = {name_key: timer for name_key, timer in self._live.items() if wanted(timer)}
        self._sweep()

    def remove_named(self, name_key: bytes) -> None:
        """The timer of this name (`which`) ended."""
        self._live.pop(name_key, None)
        if self._heard is not None:
            self._heard.pop(name_key, None)

    def begin_page(self) -> bytes:
        """Where the next page begins: read rows with greater keys, then call `end_page`."""
        self._heard = {}
        self._moved = False
        return self.edge or b""

    def end_page(self, page: Iterable[tuple[bytes, Timer]], edge: bytes | None) -> None:
        """A page came: timers with their keys. Now all up to `edge` are here (None: it was the last page)."""
        heard, self._heard = self._heard or {}, None
        if not self._moved:
            self.edge = edge
            heap, live = self._heap, self._live
            for entry in page:
                name_key, timer = entry[0][DUE_BYTES:], entry[1]
                here = (heard and heard.get(name_key)) or live.get(name_key)
                if here is None or here.seq < timer.seq:
                    live[name_key] = timer
                    heappush(heap, entry)
            self._sweep_if_many_died()
        for timer in heard.values():
            self.add(timer)
        if len(self._live) > 2 * self._max:
            self._cut()

    def fail_page(self) -> None:
        """The page could not be read: it will be asked for again."""
        self._heard = None

    def start_again(self) -> None:
        """Read the table from its beginning, for timers that were missed or given up."""
        self.edge = b""
        self._moved = True

    def _push(self, key: bytes, timer: Timer) -> None:
        self._live[key[DUE_BYTES:]] = timer
        heappush(self._heap, (key, timer))
        self._sweep_if_many_died()

    def _sweep_if_many_died(self) -> None:
        if len(self._heap) > 2 * len(self._live) + _DEAD_MAX:
            self._sweep()

    def _bury(self) -> None:
        """Drop what was replaced or ended from the top."""
        heap, live = self._heap, self._live
        while heap and live.get(heap[0][0][DUE_BYTES:]) is not heap[0][1]:
            heappop(heap)

    def _cut(self) -> None:
        """Too many came: keep the first ones, and read the others again when it is their turn."""
        keys = sorted(timer.key for timer in self._live.values())[: self._max]
        self.edge = keys[-1]
        self._moved = True
        self._live = {which(key): self._live[which(key)] for key in keys}
        self._sweep()

    def _sweep(self) -> None:
        live = self._live
        self._heap = [entry for entry in self._heap if live.get(which(entry[0])) is entry[1]]
        heapify(self._heap)


class Retries:
    """Firings that failed and wait to be tried again: how long, and how many may wait.

    `waiting` and `failures` may be looked at; only the methods change them.
    """

    def __init__(self, *, count_max: int, first_s: float, longest_s: float) -> None:
        self._count_max = count_max
        self._first_s = first_s
        self._longest_s = longest_s
        self.waiting: list[tuple[float, Timer]] = []
        """A heap of timers, by the time at which each is due again."""
        self.failures: dict[bytes, int] = {}
        """How often a firing has failed in a row, by the timer's key."""

    def add(self, key: bytes, timer: Timer, now_s: float) -> float | None:
        """A firing failed: try it again after the seconds returned. None: there is no room for it."""
        if len(self.waiting) >= self._count_max:
            self.failures.pop(key, None)
            return None
        failures = self.failures[key] = self.failures.get(key, 0) + 1
        wait_s = min(self._longest_s, self._first_s * 2.0 ** min(failures - 1, 20))
        heappush(self.waiting, (now_s + wait_s, timer))
        return wait_s

    def pop(self, now_s: float) -> Timer | None:
        """The first timer that is due again, if there is one."""
        if self.waiting and self.waiting[0][0] <= now_s:
            return heappop(self.waiting)[1]
        return None

    def clear(self) -> None:
        """Nothing waits any more."""
        self.waiting.clear()
        self.failures.clear()

    def succeeded(self, key: bytes) -> None:
        """A firing worked: if the timer fails later, it waits as after a first failure."""
        self.failures.pop(key, None)
