"""What a decision knows of its entity's pending timers. Pure.

Only the entity writes the stream of its timers, one decision after the other. So what is known at one head is
known at the next one, together with what the decision in between has changed. Most firings need no more: the
table of timers, read at some head, says that the timer was pending there, and no decision since then has
touched it. All of an entity's timers are read only if a decision must know them (`missing`).
"""

from collections.abc import Mapping

_ENDED = 0
_CHANGES_MAX = 256
"""An entity that is not known whole remembers as many changes. Older certificates then count no more."""


class Known:
    """Of each name that is known: when that timer is due, or that none is pending.

    Invariant: `_dues` holds what is pending at `_head` if `_whole`, else all changes after `_since`.
    """

    __slots__ = ("_dues", "_head", "_next", "_since", "_whole")

    def __init__(self) -> None:
        self._head = self._since = 0
        self._dues: dict[str, int] = {}
        self._whole = True  # no stream of timers, no timers
        self._next: tuple[int, Mapping[str, int]] | None = None

    def move(self, head: int) -> None:
        """The timers are at this head now. What was known of another head is forgotten."""
        expected, self._next = self._next, None
        if expected is not None and expected[0] == head:
            self._head = head
            for name, due_ms in expected[1].items():
                if due_ms or not self._whole:
                    self._dues[name] = due_ms
                else:
                    self._dues.pop(name, None)
        if self._head != head or (not self._whole and len(self._dues) > _CHANGES_MAX):
            self._head = self._since = head
            self._dues, self._whole = {}, False

    @property
    def names(self) -> frozenset[str] | None:
        """The names of all pending timers, None if they must be read."""
        return frozenset(self._dues) if self._whole else None

    def due_ms(self, name: str) -> int | None:
        """When the timer of this name is due, 0 if none is pending, None if that must be read."""
        return self._dues.get(name, _ENDED if self._whole else None)

    def pending(self, name: str, due_ms: int, seq: int) -> bool | None:
        """Whether a timer with this due time at this head is still pending, None if not known."""
        if name in self._dues:
            return self._dues[name] == due_ms
        if self._whole:
            return False
        return True if self._since <= seq <= self._head else None

    def expect(self, head: int, changes: Mapping[str, int]) -> None:
        """What becomes of some timers (0: they end) once the head is this one: when a decision is written."""
        self._next = (head, changes)

    def learn(self, head: int, dues: Mapping[str, int]) -> None:
        """What was read at this head: all pending timers."""
        self._head, self._dues, self._whole, self._next = head, dict(dues), True, None
