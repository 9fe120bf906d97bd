"""All checkers together. A verdict that is not true is a failure, unless its kind could not happen."""

from collections.abc import Callable, Collection, Iterable

from huahuo.eventstore.verdict import Verdict
from tests.support.checkers import client_side, log_side, trust_side, work_side
from tests.support.checkers.history import History

type Checker = Callable[[History], Verdict]

CHECKERS: tuple[Checker, ...] = (
    log_side.acknowledged_is_there,
    log_side.nothing_unasked,
    log_side.numbers_follow,
    log_side.looks_are_prefixes,
    client_side.delivered_is_durable,
    client_side.applied_in_order,
    client_side.converged,
    client_side.resumes_go_on,
    client_side.acks_only_rise,
    log_side.commands_once,
    log_side.one_writer,
    log_side.senders_in_order,
    log_side.states_follow_from_log,
    client_side.one_order,
    client_side.nothing_of_others,
    trust_side.no_secret_anywhere,
    trust_side.erased_stays_sealed,
    trust_side.doors_hold,
    trust_side.nothing_changes_on_the_way,
    work_side.mails_once,
    trust_side.tokens_durable_first,
    trust_side.one_refresh_at_a_time,
    trust_side.grants_live_on,
    work_side.drains_in_time,
    work_side.back_at_base_line,
    work_side.followers_get_all,
    work_side.work_ends,
    work_side.hooks_get_all,
    trust_side.nodes_agree,
    trust_side.nothing_false_served,
)


def verdicts(history: History) -> list[Verdict]:
    """What each checker says."""
    return [checker(history) for checker in CHECKERS]


def failures(said: Iterable[Verdict], may_be_unknown: Collection[str] = ()) -> list[Verdict]:
    """Those that are false, and those that are unknown though the run should have shown them."""
    return [
        one
        for one in said
        if one.holds is False or (one.holds is None and one.invariant not in may_be_unknown)
    ]
