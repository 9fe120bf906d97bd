"""Checkers of docs/invariants.md: pure functions over the events that clients saw and those in the log."""

from collections import defaultdict
from collections.abc import Sequence

import msgspec


class Seen(msgspec.Struct, frozen=True):
    """One event as a client applied it, or as the log holds it."""

    seq: int
    type: str
    body: str


TERMINAL = {"ok", "error", "need_reauth", "cancelled"}


def same_run(applied: Sequence[Seen], log: Sequence[Seen]) -> str | None:
    """I6: what a client applied is a contiguous run of the log, in order, none twice. None: it holds."""
    if not applied:
        return "applied nothing: proves nothing"
    first = applied[0].seq
    wanted = [event for event in log if first <= event.seq <= applied[-1].seq]
    for got, want in zip(applied, wanted, strict=False):
        if got != want:
            return f"applied {got} where the log holds {want}"
    if len(applied) != len(wanted):
        return f"applied {len(applied)} events, the log holds {len(wanted)} there"
    return None


def checks_end_once(log: Sequence[Seen]) -> str | None:
    """I20: per check, progress never decreases, ends at 100, one terminal status follows. None: it holds."""
    progress: dict[int, int] = defaultdict(int)
    ended: set[int] = set()
    seen: set[int] = set()
    for event in log:
        body = msgspec.json.decode(event.body)
        check = body.get("check_id")
        if check is None:
            continue
        seen.add(check)
        if check in ended:
            return f"check {check} goes on after its end at seq {event.seq}"
        if event.type == "check_progress":
            if body["progress"] < progress[check]:
                return f"check {check} went back from {progress[check]} to {body['progress']}"
            progress[check] = body["progress"]
        elif event.type == "email_status_update" and body["status"] in TERMINAL:
            if progress[check] != 100:
                return f"check {check} ended at progress {progress[check]}"
            ended.add(check)
    if not seen:
        return "no check ran: proves nothing"
    return f"never ended: {seen - ended}" if seen - ended else None
