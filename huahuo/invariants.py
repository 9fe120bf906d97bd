"""Invariants that a log alone can show, judged on a user's own log by `huahuo doctor --check`. Pure.

Rules of the log itself (numbers I3, the hash chain I4, acks I9), of secrets (no event holds a key of the
service, I16), and of effects and timers (I26). Work that is open at the end of the log is no fault,
because the service goes on with it. A log that was compacted no longer says all, so a stream with
tombstones is judged from its first event that was kept. `huahuo.cli.doctor_log` walks over a log and asks
these rules and those of plug-ins.
"""

import base64
from collections.abc import Mapping
from typing import Any

import msgspec

from huahuo.eventstore.core.chain import GENESIS, relink
from huahuo.eventstore.model import StoredEvent, Tombstone
from huahuo.eventstore.verdict import Ends, Tally, Verdict


class NumbersFollow:
    """I3: positions and the seqs of each stream have no gap and no duplicate, also over pruned events."""

    def __init__(self) -> None:
        self._tally = Tally("I3")
        self._position = 0
        self._seqs: dict[str, int] = {}

    def see(self, one: StoredEvent | Tombstone) -> None:
        """See `Rule`."""
        self._tally.judged += 1
        if one.position != self._position + 1:
            self._tally.wrong(f"position {one.position} follows {self._position}")
        last = self._seqs.get(one.stream, 0)
        if one.seq != last + 1:
            self._tally.wrong(f"{one.stream}: seq {one.seq} follows {last}, at position {one.position}")
        self._position, self._seqs[one.stream] = one.position, one.seq

    def verdict(self, ends: Ends) -> Verdict:
        """See `Rule`."""
        for stream, seq in ends.heads.items():
            if seq != self._seqs.get(stream, 0):
                self._tally.wrong(f"{stream}: the head is {seq}, the last event {self._seqs.get(stream, 0)}")
        return self._tally.verdict("numbers without a gap")


class ChainHolds:
    """I4: each link of the hash chain follows from the event and the link before it."""

    def __init__(self) -> None:
        self._tally = Tally("I4")
        self._chain = GENESIS

    def see(self, one: StoredEvent | Tombstone) -> None:
        """See `Rule`."""
        self._tally.judged += 1
        if isinstance(one, StoredEvent) and relink(self._chain, one) != one.chain:
            self._tally.wrong(f"position {one.position} is not what was written")
        self._chain = one.chain

    def verdict(self, ends: Ends) -> Verdict:
        """See `Rule`."""
        del ends
        return self._tally.verdict("links of the hash chain")


class AcksWithinStreams:
    """I9: no stored ack is beyond the last event of its stream."""

    def __init__(self) -> None:
        self._tally = Tally("I9")
        self._seqs: dict[str, int] = {}

    def see(self, one: StoredEvent | Tombstone) -> None:
        """See `Rule`."""
        self._seqs[one.stream] = one.seq

    def verdict(self, ends: Ends) -> Verdict:
        """See `Rule`."""
        for ack in ends.acks:
            self._tally.judged += 1
            if ack.seq > self._seqs.get(ack.stream, 0):
                head = self._seqs.get(ack.stream, 0)
                self._tally.wrong(f"{ack.user} acknowledged {ack.seq} of {ack.stream}, which ends at {head}")
        return self._tally.verdict("acks within their streams")


_SHIFTS = range(3)
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


class KeysNotWritten:
    """`keys` by their names, which are the only thing that a finding tells."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._tally = Tally("I16")
        self._forms = [(name, form) for name, key in keys.items() for form in _forms(key)]

    def see(self, one: StoredEvent | Tombstone) -> None:
        """See `Rule`."""
        if isinstance(one, Tombstone):
            return
        self._tally.judged += 1
        for name, form in self._forms:
            if form in one.body:
                self._tally.wrong(f"the event at position {one.position} holds the {name}")

    def verdict(self, ends: Ends) -> Verdict:
        """See `Rule`."""
        del ends
        return self._tally.verdict("events without a key of the service")


def _forms(key: bytes) -> list[bytes]:
    """The key raw, in hex, and in base64 with up to two bytes before it."""
    whole = [base64.b64encode(bytes(shift) + key) for shift in _SHIFTS]
    inner = [form[4 if shift else 0 : -4] for shift, form in zip(_SHIFTS, whole, strict=True)]
    return [key, key.hex().encode(), *inner, *(one.translate(_URL_SAFE) for one in inner)]


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
