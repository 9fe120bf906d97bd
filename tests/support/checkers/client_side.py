"""Checkers of what clients saw: I5, I6, I7, I8, I9, I14, I15. Pure."""

from collections import defaultdict

from huahuo.eventstore.verdict import Tally, Verdict
from tests.support.checkers.history import Follower, History

CONVERGE_S = 30.0
ANEW = {"snapshot", "reset", "skipped"}
"""After these a client knows that it did not see every event."""


def delivered_is_durable(history: History) -> Verdict:
    """I5: each event that a client saw is in the final log, at that place and with that content."""
    tally, places = Tally("I5"), history.by_place()
    for follower in history.followers:
        for one in follower.applied:
            if one.kind != "event" or (one.log and one.log != history.log_id):
                continue
            tally.judged += 1
            fact = places.get((one.stream, one.seq))
            if fact is None:
                tally.wrong(f"{follower.client} saw {one.stream} {one.seq}, which is not in the log")
            elif (fact.type, fact.nonce) != (one.type, one.nonce):
                seen, there = f"{one.type} {one.nonce}", f"{fact.type} {fact.nonce}"
                tally.wrong(f"{follower.client} saw {seen} at {one.stream} {one.seq}, where {there} is")
    return tally.verdict("deliveries that are in the log")


def applied_in_order(history: History) -> Verdict:
    """I6: each client applies k+1, k+2, … across all reconnects, unless it is told that it begins anew."""
    tally = Tally("I6")
    for follower in history.followers:
        last: int | None = None
        for one in follower.applied:
            if one.kind in ANEW:
                last = one.seq
            elif one.kind == "event":
                tally.judged += 1
                if last is not None and one.seq != last + 1:
                    tally.wrong(f"{follower.client} applied {one.stream} {one.seq} after {last}")
                last = one.seq
    return tally.verdict("events applied in order, none twice")


def converged(history: History) -> Verdict:
    """I7: after all faults end, every live client has the head of its stream within 30 s."""
    tally, heads = Tally("I7"), defaultdict[str, int](int)
    for fact in history.log:
        heads[fact.stream] = max(heads[fact.stream], fact.seq)
    took_s = history.ended_s - history.healed_s
    for one in history.followers:
        if not (one.live and one.may):
            continue
        tally.judged += 1
        last = one.applied[-1].seq if one.applied else 0
        head = history.heads.get(one.stream, 0) if history.heads else heads[one.stream]
        if last < head:
            tally.wrong(f"{one.client} stands at {one.stream} {last} of {head}")
    if took_s > CONVERGE_S:
        tally.wrong(f"it took {took_s:.0f} s")
    return tally.verdict("clients at the head")


def resumes_go_on(history: History) -> Verdict:
    """I8: a resume goes on right behind what its client had, or says `gap` or `reset`.

    A client may have more than it has applied, so a place behind that is no fault; a hole after it is.
    """
    tally = Tally("I8")
    for follower in history.followers:
        last, place = 0, False
        for one in follower.applied:
            if one.kind == "place":
                place = True
                tally.judged += 1
                if one.seq < last:
                    tally.wrong(f"{follower.client} had {one.stream} {last} and was placed behind {one.seq}")
            elif one.kind in ANEW:
                last, place = one.seq, False
            else:
                if place and last and one.seq != last + 1:
                    tally.wrong(f"{follower.client} had {one.stream} {last} and was given {one.seq}")
                last, place = one.seq, False
    return tally.verdict("resumes that went on, or said why not")


def acks_only_rise(history: History) -> Verdict:
    """I9: a stored ack never decreases, and never passes what its client was sent."""
    tally = Tally("I9")
    sent: defaultdict[tuple[str, str], int] = defaultdict(int)
    for follower in history.followers:
        for one in follower.applied:
            place = follower.client, follower.stream
            sent[place] = max(sent[place], one.seq)
    before: dict[tuple[str, str, str], int] = {}
    for stored in history.acks:
        for key, seq in stored.items():
            tally.judged += 1
            _user, client, stream = key
            if seq < before.get(key, 0):
                tally.wrong(f"the ack of {client} in {stream} fell from {before[key]} to {seq}")
            if (client, stream) in sent and seq > sent[client, stream]:
                tally.wrong(f"{client} acknowledged {stream} {seq} and was sent {sent[client, stream]}")
        for key in before.keys() - stored.keys():
            tally.wrong(f"the ack of {key[1]} in {key[2]} is gone")
        before = stored
    return tally.verdict("stored acks")


def one_order(history: History) -> Verdict:
    """I14: all clients of a stream see the same event at each place."""
    tally, seen = Tally("I14"), dict[tuple[str, str, int], tuple[str, str]]()
    for follower in history.followers:
        for one in follower.applied:
            if one.kind != "event":
                continue
            tally.judged += 1
            key = one.log, one.stream, one.seq
            what = one.type, one.nonce
            if seen.setdefault(key, what) != what:
                tally.wrong(f"{one.stream} {one.seq} is {seen[key]} for one client and {what} for another")
    return tally.verdict("events that all saw at one place")


def nothing_of_others(history: History) -> Verdict:
    """I9, I15, I18: nobody gets an event of a stream that the user may not read, or another user's text."""
    tally = Tally("I15")
    for follower in history.followers:
        tally.judged += 1
        if not follower.may and _events(follower):
            tally.wrong(f"{follower.client} of user {follower.user} was given {follower.stream}")
    for user, text in history.shown:
        tally.judged += 1
        for canary, owner in history.canaries.items():
            if owner != user and canary in text:
                tally.wrong(f"user {user} was shown what only user {owner} may see: {canary}")
    return tally.verdict("subscriptions and texts of the right users")


def _events(follower: Follower) -> int:
    return sum(one.kind == "event" for one in follower.applied)
