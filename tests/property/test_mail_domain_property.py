"""Whatever users, checks and applications do in whatever order, the promises of the domain hold.

Decisions are taken on states that may be stale and are written later, as entities that race do;
what conflicts is decided again.
"""

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from huahuo.mailcheck.mailbox.decider import Finish
from huahuo.mailcheck.roster.decider import CancelCheck
from tests.support.models.mail_book import snapshot_state
from tests.support.models.mail_rules import broken_checks, broken_deletions, broken_mails, leaks
from tests.support.models.racing import OPEN, USERS, Racing, steps
from tests.support.proofs import examples

CANARIES = ("canary-password", "canary-token", "canary-client", "canary-line")

races = st.lists(st.booleans(), min_size=10, max_size=40)


@settings(max_examples=examples(300), deadline=None)
@given(steps, races)
def test_every_check_is_monotone_and_ends_once_and_mails_are_told_once(
    steps_: list[tuple[str, int, Any]], races_: list[bool]
) -> None:
    book = Racing().run(steps_, races_)
    assert broken_checks(book.events) == []
    assert broken_deletions(book.events) == []
    assert broken_mails(book.events) == []


@settings(max_examples=examples(80), deadline=None)
@given(steps, races)
def test_every_open_check_and_no_other_is_found_after_a_restart(
    steps_: list[tuple[str, int, Any]], races_: list[bool]
) -> None:
    book = Racing().run(steps_, races_)
    listed = {
        int.from_bytes(key, "big"): msgspec.json.decode(value)["check_id"]
        for (table, _, key), value in book.rows.items()
        if table == "checks"
    }
    seen_by_users = {k: v for user in USERS for k, v in book.roster_state(user).checks.items()}
    seen_by_mailboxes = {
        n: check.check_id for n in range(1, 20) if (check := book.mailbox_state(n).check) is not None
    }
    assert listed == seen_by_users == seen_by_mailboxes


@settings(max_examples=examples(80), deadline=None)
@given(steps, st.floats(0, 1))
def test_a_snapshot_and_the_tail_behind_it_are_the_live_state(
    steps_: list[tuple[str, int, Any]], where: float
) -> None:
    book = Racing().run(steps_, [])
    for user in USERS:
        stream = f"user/{user}"
        at = round(where * book.heads[stream])
        state = book.rosters.load(stream, book.rosters.dump(book.roster_state(user, upto=at)))
        for event in book.stream(stream)[at:]:
            state = book.rosters.evolve(state, event)
        assert snapshot_state(state) == snapshot_state(book.roster_state(user))
        assert state == book.roster_state(user)


@settings(max_examples=examples(80), deadline=None)
@given(steps)
def test_no_secret_is_in_an_event_a_row_or_an_answer(steps_: list[tuple[str, int, Any]]) -> None:
    racing = Racing()
    book = racing.run(steps_, [])
    bodies = [e.body for e in book.events]
    assert (
        leaks(CANARIES, *bodies, *book.rows.values(), *racing.answers, *map(str.encode, map(repr, steps_)))
        == []
    )


def test_racing_decisions_do_conflict() -> None:
    """Or the properties above would prove nothing about races."""
    racing = Racing()
    racing.run([("roster", 7, CancelCheck((1,))), ("mailbox", 1, Finish(OPEN, "ok"))], [True])
    assert racing.conflicts == 1
