"""Checkers of what must never be seen or believed: I16, I17, I18, I21, I23, I27, I28. Pure."""

from collections import Counter, defaultdict

from huahuo.eventstore.verdict import Tally, Verdict
from tests.support.checkers.history import History
from tests.support.models.encodings import encodings_of

CLOSES_WITHIN_S = 15.0
"""A connection may outlive its token by this long: the service looks at each every few seconds."""
WAYS_LEAST = 2


def no_secret_anywhere(history: History) -> Verdict:
    """I16: no secret is, in any encoding, in a file, frame, log line or answer."""
    tally = Tally("I16")
    for secret in history.secrets:
        forms = encodings_of(secret)
        for where, data in history.places.items():
            tally.judged += 1
            for name, form in forms.items():
                if form in data:
                    tally.wrong(f"{where} holds a secret ({secret[:6]}…) as {name}")
    return tally.verdict("searches for a secret")


def erased_stays_sealed(history: History) -> Verdict:
    """I17: of what was erased neither the key nor the sealed text is left, and nobody can open it."""
    tally = Tally("I17")
    for one in history.erased:
        tally.judged += 1
        if one.opened:
            tally.wrong(f"{one.what} was erased and could be opened")
        for where, data in history.after_erasure.items():
            if any(form in data for form in one.forms):
                tally.wrong(f"{one.what} was erased, and {where} still holds bytes of it")
    return tally.verdict("erased things that nothing opens")


def doors_hold(history: History) -> Verdict:
    """I18: nothing is handled before a connection is authenticated, nor long after its token has ended."""
    tally = Tally("I18")
    written_s = {(fact.stream, fact.seq): fact.at_s for fact in history.log}
    for door in history.doors:
        tally.judged += 1
        if door.before:
            tally.wrong(f"{door.client} was answered before it was authenticated: {door.before[0]}")
        for place in door.got:
            at_s = written_s.get(place, 0.0)
            if at_s > door.until_s + CLOSES_WITHIN_S:
                late_s = at_s - door.until_s
                tally.wrong(
                    f"{door.client} was given {place[0]} {place[1]}, {late_s:.0f} s after its token ended"
                )
    return tally.verdict("connections that were served between their login and their end")


def nothing_changes_on_the_way(history: History) -> Verdict:
    """I21: whichever way an event comes, packed, in pieces or plain, it is what was written."""
    tally, ways = Tally("I21"), set[str]()
    written = {(fact.stream, fact.seq): fact.digest for fact in history.log if fact.digest}
    for follower in history.followers:
        for one in follower.applied:
            digest = written.get((one.stream, one.seq))
            if one.kind != "event" or not one.digest or digest is None or one.log != history.log_id:
                continue
            ways.add(one.way)
            tally.judged += 1
            if one.digest != digest:
                tally.wrong(f"{follower.client} got another {one.stream} {one.seq} by the way {one.way}")
    said = tally.verdict(f"events that were the same by the ways {', '.join(sorted(ways))}")
    if said.holds and len(ways) < WAYS_LEAST:
        return Verdict("I21", None, "all events came by one way")
    return said


def tokens_durable_first(history: History) -> Verdict:
    """I23: nothing is done with what came with a rotated refresh token before that token is durable."""
    tally, kept = Tally("I23"), defaultdict[str, set[str]](set)
    for account, what, token in history.rotations:
        if what == "kept":
            kept[account].add(token)
            continue
        tally.judged += 1
        if token not in kept[account]:
            tally.wrong(f"{account}: a token was relied on before it was durable")
    return tally.verdict("uses of a token that was durable")


def one_refresh_at_a_time(history: History) -> Verdict:
    """I23: all nodes that are heard of together never have two requests by one grant under way."""
    tally, under_way = Tally("I23"), defaultdict[str, Counter[int]](Counter)
    for account, life, what in history.refreshes:
        lives = under_way[account]
        if what == "unheard":
            del lives[life]
            continue
        if what == "over" and life not in lives:
            continue  # it ended unheard
        lives[life] += 1 if what == "begun" else -1
        tally.judged += what == "begun"
        if what == "begun" and sum(lives.values()) > 1:
            tally.wrong(f"{account}: two refreshes at a time")
    return tally.verdict("refreshes, each alone")


def grants_live_on(history: History) -> Verdict:
    """I23: a grant that its server did not end signs in after any faults."""
    tally = Tally("I23")
    for account, ended, signs_in in history.grants:
        tally.judged += not ended
        if not ended and not signs_in:
            tally.wrong(f"{account}: the account is lost")
    return tally.verdict("accounts that sign in when all faults are over")


def nodes_agree(history: History) -> Verdict:
    """I27: all nodes of a cluster hold one chain, and a node that differs serves nothing."""
    tally, one_chain = Tally("I27"), dict[int, tuple[str, bytes]]()
    for node, links in history.nodes.items():
        for position, chain in links:
            first, held = one_chain.setdefault(position, (node, chain))
            tally.judged += first != node
            if held != chain:
                tally.wrong(f"{node} and {first} hold different events at {position}")
    for node, position, chain in history.node_served:
        tally.judged += 1
        if position in one_chain and one_chain[position][1] != chain:
            tally.wrong(f"{node} served {position} of another chain")
    return tally.verdict("links that two nodes hold alike")


def nothing_false_served(history: History) -> Verdict:
    """I28: what was damaged is refused or comes as it was written, never changed."""
    tally = Tally("I28")
    for place, written, served in history.reads:
        tally.judged += 1
        if served is not None and served != written:
            tally.wrong(f"{place} was served, and is not what was written")
    return tally.verdict("reads beside damage that gave the truth or a refusal")
