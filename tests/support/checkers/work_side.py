"""Checkers of work and of the run itself: I19, I22, I24, I26, and whether anything was proved. Pure."""

from collections import Counter
from collections.abc import Mapping

from huahuo.eventstore.verdict import Tally, Verdict
from tests.support.checkers.history import History

DRAIN_S = 10.0
GROWTH_MAX = 1.1
"""What is left after a storm may be this much of what was there before it."""


def mails_once(history: History) -> Verdict:
    """I22: each mail on the server is told exactly once."""
    tally = Tally("I22")
    for mailbox, (there, told) in history.mails.items():
        tally.judged += len(there)
        counts = Counter(told)
        for nonce in there:
            if counts[nonce] != 1:
                tally.wrong(f"{mailbox}: {nonce} was told {counts[nonce]} times")
        if strange := counts.keys() - set(there):
            tally.wrong(f"{mailbox}: {min(strange)} was told and is not there")
    return tally.verdict("mails told once")


def work_ends(history: History) -> Verdict:
    """I26, liveness: when all faults are over, nothing that was due is left open."""
    tally = Tally("I26")
    tally.judged = history.counts["effect"] + history.counts["timer"]
    for what in history.open_work:
        tally.wrong(f"{what} is still open")
    return tally.verdict("effects and timers that came to their end")


def hooks_get_all(history: History) -> Verdict:
    """I15, I26: a receiver of a webhook gets each event that it is for, signed, and no other one."""
    tally = Tally("I26")
    for hook in history.hooks:
        tally.judged += len(hook.due)
        for stream, seq in sorted(hook.due - hook.accepted):
            tally.wrong(f"{hook.name} never got {stream} {seq}")
        for stream, seq in sorted(hook.accepted - hook.may):
            tally.wrong(f"{hook.name} was given {stream} {seq}, which it is not for")
        for text in hook.false:
            tally.wrong(f"{hook.name}: {text}")
    return tally.verdict("events that receivers of webhooks got")


def followers_get_all(history: History) -> Verdict:
    """I26: each follower got each event of its kinds, in order, and none twice without a crash."""
    tally = Tally("I26")
    for one in history.followed:
        got = list(dict.fromkeys(one.got)) if one.repeats else one.got
        tally.judged += len(got)
        last = max([one.due, *(position for position, _, _ in got)])
        wanted = [
            (fact.position, fact.stream, fact.seq)
            for fact in history.log
            if fact.position <= last and fact.stream.partition("/")[0] in one.kinds
        ]
        if got != wanted:
            differ = next((at for at, (a, b) in enumerate(zip(got, wanted, strict=False)) if a != b), None)
            at = min(len(got), len(wanted)) if differ is None else differ
            tally.wrong(f"{one.name} got {got[at : at + 1]} where {wanted[at : at + 1]} follows")
    return tally.verdict("events that followers got")


def drains_in_time(history: History) -> Verdict:
    """I24: each drain takes at most 10 s."""
    tally = Tally("I24")
    for took_s in history.drains_s:
        tally.judged += 1
        if took_s > DRAIN_S + 1:
            tally.wrong(f"a drain took {took_s:.1f} s")
    return tally.verdict("drains in time")


def back_at_base_line(history: History) -> Verdict:
    """I19, I25: after the storm there is as much as before it."""
    tally = Tally("I25")
    for what, before, after in history.base_lines:
        tally.judged += 1
        if after > before * GROWTH_MAX + 8:
            tally.wrong(f"{what}: {after:.0f} where {before:.0f} were before")
    return tally.verdict("counts back at their base line")


def proved_something(history: History, wanted: Mapping[str, int]) -> Verdict:
    """A run in which too little happened proves nothing: unknown, which is a failure."""
    short = {name: history.counts[name] for name, least in wanted.items() if history.counts[name] < least}
    if short:
        return Verdict("run", None, f"too little happened: {short}")
    return Verdict("run", True, ", ".join(f"{history.counts[name]} {name}" for name in wanted))
