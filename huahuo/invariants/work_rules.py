"""Rules of work that was recorded: effects and timers (I26). Pure.

Work that is open at the end of the log is no fault, because the service goes on with it. A log that was
compacted no longer says all, so a stream with tombstones is judged from its first event that was kept.
"""

from typing import Any

import msgspec

from huahuo.eventstore.model import StoredEvent, Tombstone
from huahuo.eventstore.verdict import Ends, Tally, Verdict

_EFFECTS = "effect/"
_TIMERS = "timer/"
_AFTER_ITS_REQUEST = {"effect_claimed", "effect_failed", "effect_ended"}


class EffectsEndOnce:
    """Each effect is asked for once, ends at most once, and nothing is said of it after its end."""

    def __init__(self) -> None:
        self._tally = Tally("I26")
        self._open: set[int] = set()
        self._ended: set[int] = set()
        self._short: set[str] = set()

    def see(self, one: StoredEvent | Tombstone) -> None:
        """See `Rule`."""
        if not one.stream.startswith(_EFFECTS):
            return
        if isinstance(one, Tombstone):
            self._short.add(one.stream)
            return
        fact = msgspec.json.decode(one.body, type=dict[str, Any])
        effect = fact.get("id")
        if not isinstance(effect, int):
            return
        where = f"effect {effect} of {one.stream.removeprefix(_EFFECTS)}, seq {one.seq}"
        if one.type == "effect_requested":
            self._tally.judged += 1
            if effect in self._open or effect in self._ended:
                self._tally.wrong(f"{where}: asked for twice")
            self._open.add(effect)
        elif one.type in _AFTER_ITS_REQUEST:
            if effect in self._ended:
                self._tally.wrong(f"{where}: {one.type} after its end")
            elif effect not in self._open and one.stream not in self._short:
                self._tally.wrong(f"{where}: {one.type}, and nobody asked for it")
            if one.type == "effect_ended":
                self._open.discard(effect)
                self._ended.add(effect)

    def verdict(self, ends: Ends) -> Verdict:
        """See `Rule`."""
        del ends
        return self._tally.verdict(f"effects ended once, or open ({len(self._open)})")


class TimersFireOnce:
    """A timer fires only while it is pending, and at the due time that it has."""

    def __init__(self) -> None:
        self._tally = Tally("I26")
        self._due: dict[tuple[str, str], int] = {}
        self._short: set[str] = set()

    def see(self, one: StoredEvent | Tombstone) -> None:
        """See `Rule`."""
        if not one.stream.startswith(_TIMERS):
            return
        if isinstance(one, Tombstone):
            self._short.add(one.stream)
            return
        fact = msgspec.json.decode(one.body, type=dict[str, Any])
        if one.type == "timers_cancelled":
            for name in fact["names"]:
                self._due.pop((one.stream, name), None)
            return
        timer = one.stream, fact["name"]
        if one.type == "timer_set":
            self._due[timer] = fact["due_ms"]
        elif one.type == "timer_fired":
            self._fired(timer, fact, one.seq)

    def _fired(self, timer: tuple[str, str], fact: dict[str, Any], seq: int) -> None:
        self._tally.judged += 1
        due_ms = self._due.pop(timer, None)
        where = f"timer {timer[1]} of {timer[0].removeprefix(_TIMERS)}, seq {seq}"
        if due_ms is None:
            if timer[0] not in self._short:
                self._tally.wrong(f"{where}: fired, and was not pending")
        elif due_ms != fact["due_ms"] and timer[0] not in self._short:
            self._tally.wrong(f"{where}: fired for {fact['due_ms']} where {due_ms} was due")
        if fact.get("next_ms"):
            self._due[timer] = fact["next_ms"]

    def verdict(self, ends: Ends) -> Verdict:
        """See `Rule`."""
        del ends
        return self._tally.verdict("firings of timers that were pending")
