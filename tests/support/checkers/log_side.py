"""Checkers of what is in the log: I1, I2, I3, I4, I10, I11, I12, I13. Pure."""

from collections import defaultdict
from itertools import pairwise

from huahuo.eventstore.verdict import Tally, Verdict
from tests.support.checkers.history import Asked, Fact, History


def acknowledged_is_there(history: History) -> Verdict:
    """I1: what was acknowledged is in the log exactly once, at its place."""
    tally, found = Tally("I1"), history.by_nonce()
    for one in history.asked:
        if one.answer != "ok":
            continue
        tally.judged += 1
        facts = found.get(one.nonce, [])
        if len(facts) != 1:
            tally.wrong(f"{one.nonce} was acknowledged and is {len(facts)} times in the log")
        elif (facts[0].stream, facts[0].seq) != (one.stream, one.seq or facts[0].seq):
            place = f"{facts[0].stream} {facts[0].seq}"
            tally.wrong(f"{one.nonce} was acknowledged at {one.stream} {one.seq} and is at {place}")
    return tally.verdict("acknowledged appends at their place")


def nothing_unasked(history: History) -> Verdict:
    """I2: each event was asked for; what was refused left none, and what nobody knows at most one."""
    tally, found = Tally("I2"), history.by_nonce()
    asked = {one.nonce: one for one in history.asked}
    for nonce, facts in found.items():
        tally.judged += 1
        if nonce not in asked:
            tally.wrong(f"{facts[0].stream} {facts[0].seq}: nobody sent {nonce}")
        elif asked[nonce].answer == "fail":
            tally.wrong(f"{nonce} was refused and is in the log")
        elif len(facts) > 1:
            tally.wrong(f"{nonce} is {len(facts)} times in the log")
    return tally.verdict("events that somebody sent")


def numbers_follow(history: History) -> Verdict:
    """I3: positions and seqs have no gap and no duplicate."""
    tally, seqs = Tally("I3"), defaultdict[str, int](int)
    for position, fact in enumerate(history.log, 1):
        tally.judged += 1
        if fact.position != position:
            tally.wrong(f"position {fact.position} where {position} is next")
        if fact.seq != seqs[fact.stream] + 1:
            tally.wrong(f"{fact.stream}: seq {fact.seq} follows {seqs[fact.stream]}")
        seqs[fact.stream] = fact.seq
    return tally.verdict("numbers without a gap")


def looks_are_prefixes(history: History) -> Verdict:
    """I4: each look at the log, at any time, was at a prefix of the final one."""
    tally = Tally("I4")
    links = {fact.position: fact.chain for fact in history.log}
    for position, chain in history.looks:
        tally.judged += 1
        if position and links.get(position) != chain:
            tally.wrong(f"position {position} was seen and is another event, or none, now")
    return tally.verdict("looks at prefixes of the final log")


def commands_once(history: History) -> Verdict:
    """I10: a command id has at most one effect, and each attempt the same answer."""
    tally = Tally("I10")
    effects: defaultdict[str, list[Fact]] = defaultdict(list)
    for fact in history.log:
        effects[fact.command].append(fact)
    for one in history.asked:
        if not one.command:
            continue
        tally.judged += 1
        facts = effects.get(one.command, [])
        for before, after in pairwise(facts):
            if after.position != before.position + 1:
                tally.wrong(f"command {one.command} wrote at {before.position} and again at {after.position}")
        if len(set(one.replies)) > 1:
            tally.wrong(f"command {one.command} was answered {one.replies[0]} and then {one.replies[-1]}")
    return tally.verdict("commands with one effect and one answer")


def one_writer(history: History) -> Verdict:
    """I11: no writer opens the log while another has it."""
    tally, holder = Tally("I11"), ""
    for what, life in history.writers:
        tally.judged += 1
        if what == "close":
            if holder == life:
                holder = ""
        elif holder:
            tally.wrong(f"{life} opened the log while {holder} had it")
        else:
            holder = life
    return tally.verdict("openings and closings of one writer at a time")


def senders_in_order(history: History) -> Verdict:
    """I12: what one sender sent to one stream is there in the order in which it was sent."""
    tally, found = Tally("I12"), history.by_nonce()
    lines: defaultdict[tuple[str, str], list[Asked]] = defaultdict(list)
    for one in history.asked:
        if one.line:
            lines[one.client, one.stream].append(one)
    for (client, stream), sent in lines.items():
        sent.sort(key=lambda one: one.line)
        seqs = [found[one.nonce][0].seq for one in sent if one.nonce in found]
        tally.judged += max(0, len(seqs) - 1)
        for before, after in pairwise(seqs):
            if after <= before:
                tally.wrong(f"{client}: {stream} {after} was sent after {before}")
    return tally.verdict("pairs in the order of their sender")


def states_follow_from_log(history: History) -> Verdict:
    """I13: the live state of each entity is what its events give."""
    tally = Tally("I13")
    for entity, live, folded in history.folded:
        tally.judged += 1
        if live != folded:
            tally.wrong(f"{entity} is {live}, and its events give {folded}")
    return tally.verdict("states that follow from their events")
