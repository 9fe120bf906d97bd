"""Each checker accepts a good history, refuses bad ones made by hand, and knows when it saw nothing."""

import base64
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.support.checkers import client_side, log_side, trust_side, work_side
from tests.support.checkers.all import CHECKERS, Checker, failures, verdicts
from tests.support.checkers.history import (
    Applied,
    Asked,
    Door,
    Erased,
    Fact,
    Followed,
    Follower,
    History,
    Hook,
)

TWICE = 2


def good() -> History:
    """Two users publish, two clients of user 1 follow, one comes back, and the service crashes once."""
    stream = "user/1"
    log = [
        Fact(
            position,
            stream,
            position,
            "tick",
            f"n{position}",
            f"c{position}",
            bytes([position]),
            f"d{position}",
            float(position),
        )
        for position in range(1, 5)
    ]
    asked = [
        Asked("a", 1, f"n{n}", stream, "ok", n, command=f"c{n}", replies=["yes"], line=n) for n in range(1, 4)
    ]
    asked.append(Asked("a", 1, "n4", stream, command="c4", replies=["yes", "yes"], line=4))
    asked.append(Asked("b", 2, "refused", "user/2", "fail"))
    events = [Applied(stream, n, "event", "tick", f"n{n}", 1.0, "log", f"d{n}", "plain") for n in range(1, 5)]
    packed = [replace(one, way="zstd") for one in events]
    first = Follower("a", 1, stream, [Applied(stream, 0, "place"), *events])
    second = Follower("z", 1, stream, [*packed[:2], Applied(stream, 2, "place"), *packed[2:]])
    stranger = Follower("b", 2, stream, live=False, may=False)
    history = History(asked=asked, followers=[first, second, stranger], log=log, log_id="log")
    history.looks = [(0, b""), (2, bytes([2])), (4, bytes([4]))]
    history.acks = [{("user/1", "a", stream): 2}, {("user/1", "a", stream): 4}]
    history.writers = [("open", "1"), ("close", "1"), ("open", "2")]
    history.drains_s, history.healed_s, history.ended_s = [3.0], 100.0, 110.0
    history.shown, history.canaries = [(1, "secret of 1"), (2, "hello")], {"secret of 1": 1, "password": 0}
    history.folded, history.base_lines = [("order/1", "packed", "packed")], [("tasks", 40.0, 41.0)]
    history.mails = {"mailbox 1": (["m1", "m2"], ["m1", "m2"])}
    history.secrets, history.places = ["pass-phrase-1"], {"a log line": b"a user came", "disk": bytes(99)}
    history.erased, history.after_erasure = [Erased("mailbox 1", (b"key", b"sealed"))], {"disk": b"others"}
    history.doors = [Door("a", until_s=50.0, got=[(stream, 1)]), Door("stranger", until_s=0.0)]
    history.rotations = [("m", "kept", "t1"), ("m", "used", "t1"), ("m", "kept", "t2")]
    history.refreshes = [("m", 1, "begun"), ("m", 1, "unheard"), ("m", 2, "begun"), ("m", 2, "over")]
    history.refreshes += [("n", 3, "begun"), ("m", 2, "begun")]
    history.grants = [("m", False, True), ("n", True, False)]
    history.nodes = {"north": [(1, b"1"), (2, b"2")], "south": [(1, b"1")]}
    history.node_served = [("north", 2, b"2")]
    history.reads = [("blob 1", b"text", b"text"), ("blob 2", b"text", None)]
    places = {(stream, 2), (stream, 3)}
    history.hooks = [Hook("webhook 1", due=places, accepted=set(places), may={*places, (stream, 4)})]
    got = [(fact.position, fact.stream, fact.seq) for fact in log if fact.stream == stream]
    history.followed = [Followed("books", ("user",), got, due=4, repeats=True)]
    history.followed[0].got = [*got[:2], *got]
    history.counts.update(crash=1, reconnect=1, ack=3, effect=2, timer=1)
    return history


def applied(history: History, follower: int = 0) -> list[Applied]:
    return history.followers[follower].applied


def lose(history: History) -> None:
    del history.log[1]


def acknowledge_elsewhere(history: History) -> None:
    history.asked[1].seq = 3


def write_twice(history: History) -> None:
    history.log.append(replace(history.log[1], position=5, seq=5))


def write_unsent(history: History) -> None:
    history.log.append(Fact(5, "user/1", 5, "tick", "from nowhere"))


def write_refused(history: History) -> None:
    history.log.append(Fact(5, "user/2", 1, "tick", "refused"))


def reuse_a_seq(history: History) -> None:
    history.log[3] = replace(history.log[3], seq=3)


def skip_a_position(history: History) -> None:
    history.log[3] = replace(history.log[3], position=9)


def rewrite_what_was_seen(history: History) -> None:
    history.log[1] = replace(history.log[1], chain=b"another")


def forget_what_was_seen(history: History) -> None:
    history.looks.append((7, b"seen"))


def deliver_what_is_lost(history: History) -> None:
    applied(history).append(Applied("user/1", 5, "event", "tick", "n5", 2.0, "log"))


def deliver_other_content(history: History) -> None:
    applied(history)[2] = replace(applied(history)[2], nonce="n9")


def apply_twice(history: History) -> None:
    applied(history).insert(3, applied(history)[2])


def apply_with_a_hole(history: History) -> None:
    del applied(history)[2]


def stand_still(history: History) -> None:
    del applied(history)[-1]


def converge_late(history: History) -> None:
    history.ended_s = 140.0


def resume_too_early(history: History) -> None:
    applied(history, 1)[2] = Applied("user/1", 1, "place")


def resume_with_a_hole(history: History) -> None:
    del applied(history, 1)[3]


def lower_an_ack(history: History) -> None:
    history.acks.append({("user/1", "a", "user/1"): 3})


def lose_an_ack(history: History) -> None:
    history.acks.append({})


def ack_what_was_not_sent(history: History) -> None:
    history.acks.append({("user/1", "a", "user/1"): 9})


def decide_a_command_twice(history: History) -> None:
    history.log[3] = replace(history.log[3], command="c1")


def answer_a_repeat_differently(history: History) -> None:
    history.asked[3].replies = ["yes", "no"]


def open_twice(history: History) -> None:
    history.writers.append(("open", "3"))


def turn_a_sender_round(history: History) -> None:
    history.asked[0].line, history.asked[1].line = 2, 1


def keep_another_state(history: History) -> None:
    history.folded.append(("order/2", "new", "packed"))


def show_two_orders(history: History) -> None:
    applied(history, 1)[0] = replace(applied(history, 1)[0], nonce="n2")


def give_a_stranger_an_event(history: History) -> None:
    history.followers[2].applied.append(applied(history)[1])


def show_a_canary_to_another(history: History) -> None:
    history.shown.append((2, "…secret of 1…"))


def show_a_password(history: History) -> None:
    history.shown.append((1, "password"))


def miss_a_mail(history: History) -> None:
    history.mails["mailbox 1"][1].pop()


def tell_a_mail_twice(history: History) -> None:
    history.mails["mailbox 1"][1].append("m1")


def tell_a_strange_mail(history: History) -> None:
    history.mails["mailbox 1"][1].append("m3")


def drain_slowly(history: History) -> None:
    history.drains_s.append(20.0)


def leak(history: History) -> None:
    history.base_lines.append(("timers", 40.0, 90.0))


def leave_work_open(history: History) -> None:
    history.open_work.append("effect 3 of order/1")


def write_a_password(history: History) -> None:
    history.places["audit index"] = b"before pass-phrase-1 after"


def log_a_password_in_base64(history: History) -> None:
    history.places["a log line"] = b"auth x" + base64.b64encode(b"?pass-phrase-1?")


def keep_an_erased_key(history: History) -> None:
    history.after_erasure["wal"] = b"before key after"


def open_what_was_erased(history: History) -> None:
    history.erased.append(Erased("mailbox 2", opened=True))


def answer_a_stranger(history: History) -> None:
    history.doors[1].before.append("a reply")


def serve_after_the_end_of_the_token(history: History) -> None:
    history.log[3] = replace(history.log[3], at_s=90.0)
    history.doors[0].got.append(("user/1", 4))


def change_on_the_way(history: History) -> None:
    applied(history, 1)[0] = replace(applied(history, 1)[0], digest="d9")


def use_a_token_first(history: History) -> None:
    history.rotations[:2] = [("m", "used", "t1"), ("m", "kept", "t1")]


def keep_the_token_of_another(history: History) -> None:
    history.rotations.append(("other", "used", "t2"))


def refresh_twice_at_a_time(history: History) -> None:
    history.refreshes.append(("m", 2, "begun"))


def refresh_on_two_nodes_at_a_time(history: History) -> None:
    history.refreshes.append(("m", 3, "begun"))


def lose_an_account(history: History) -> None:
    history.grants.append(("other", False, False))


def fork_a_node(history: History) -> None:
    history.nodes["south"].append((2, b"another"))


def serve_from_a_fork(history: History) -> None:
    history.node_served.append(("south", 2, b"another"))


def serve_rot(history: History) -> None:
    history.reads.append(("event 3", b"text", b"tExt"))


def serve_nothing_for_something(history: History) -> None:
    history.reads.append(("event 4", b"text", b""))


def lose_for_a_follower(history: History) -> None:
    del history.followed[0].got[-2]


def leave_a_follower_behind(history: History) -> None:
    del history.followed[0].got[-1]


def turn_a_followers_events(history: History) -> None:
    got = history.followed[0].got
    got[:] = got[2:]
    got[1], got[2] = got[2], got[1]


def give_a_follower_what_is_not_its_kind(history: History) -> None:
    history.followed[0].kinds = ("order",)


def repeat_for_one_with_its_own_cursor(history: History) -> None:
    history.followed[0].repeats = False


def lose_a_delivery(history: History) -> None:
    history.hooks[0].accepted.discard(("user/1", 3))


def deliver_to_a_stranger(history: History) -> None:
    history.hooks[0].accepted.add(("user/2", 1))


def deliver_unsigned(history: History) -> None:
    history.hooks[0].false.append("delivery 1.2 is not signed with the secret of its webhook")


BAD: list[tuple[Checker, Callable[[History], None]]] = [
    (log_side.acknowledged_is_there, lose),
    (log_side.acknowledged_is_there, acknowledge_elsewhere),
    (log_side.acknowledged_is_there, write_twice),
    (log_side.nothing_unasked, write_unsent),
    (log_side.nothing_unasked, write_refused),
    (log_side.nothing_unasked, write_twice),
    (log_side.numbers_follow, reuse_a_seq),
    (log_side.numbers_follow, skip_a_position),
    (log_side.numbers_follow, lose),
    (log_side.looks_are_prefixes, rewrite_what_was_seen),
    (log_side.looks_are_prefixes, forget_what_was_seen),
    (client_side.delivered_is_durable, deliver_what_is_lost),
    (client_side.delivered_is_durable, deliver_other_content),
    (client_side.applied_in_order, apply_twice),
    (client_side.applied_in_order, apply_with_a_hole),
    (client_side.converged, stand_still),
    (client_side.converged, converge_late),
    (client_side.resumes_go_on, resume_too_early),
    (client_side.resumes_go_on, resume_with_a_hole),
    (client_side.acks_only_rise, lower_an_ack),
    (client_side.acks_only_rise, lose_an_ack),
    (client_side.acks_only_rise, ack_what_was_not_sent),
    (log_side.commands_once, decide_a_command_twice),
    (log_side.commands_once, answer_a_repeat_differently),
    (log_side.one_writer, open_twice),
    (log_side.senders_in_order, turn_a_sender_round),
    (log_side.states_follow_from_log, keep_another_state),
    (client_side.one_order, show_two_orders),
    (client_side.nothing_of_others, give_a_stranger_an_event),
    (client_side.nothing_of_others, show_a_canary_to_another),
    (client_side.nothing_of_others, show_a_password),
    (trust_side.no_secret_anywhere, write_a_password),
    (trust_side.no_secret_anywhere, log_a_password_in_base64),
    (trust_side.erased_stays_sealed, keep_an_erased_key),
    (trust_side.erased_stays_sealed, open_what_was_erased),
    (trust_side.doors_hold, answer_a_stranger),
    (trust_side.doors_hold, serve_after_the_end_of_the_token),
    (trust_side.nothing_changes_on_the_way, change_on_the_way),
    (trust_side.tokens_durable_first, use_a_token_first),
    (trust_side.tokens_durable_first, keep_the_token_of_another),
    (trust_side.one_refresh_at_a_time, refresh_twice_at_a_time),
    (trust_side.one_refresh_at_a_time, refresh_on_two_nodes_at_a_time),
    (trust_side.grants_live_on, lose_an_account),
    (trust_side.nodes_agree, fork_a_node),
    (trust_side.nodes_agree, serve_from_a_fork),
    (trust_side.nothing_false_served, serve_rot),
    (trust_side.nothing_false_served, serve_nothing_for_something),
    (work_side.mails_once, miss_a_mail),
    (work_side.mails_once, tell_a_mail_twice),
    (work_side.mails_once, tell_a_strange_mail),
    (work_side.drains_in_time, drain_slowly),
    (work_side.back_at_base_line, leak),
    (work_side.work_ends, leave_work_open),
    (work_side.followers_get_all, lose_for_a_follower),
    (work_side.followers_get_all, leave_a_follower_behind),
    (work_side.followers_get_all, turn_a_followers_events),
    (work_side.followers_get_all, give_a_follower_what_is_not_its_kind),
    (work_side.followers_get_all, repeat_for_one_with_its_own_cursor),
    (work_side.hooks_get_all, lose_a_delivery),
    (work_side.hooks_get_all, deliver_to_a_stranger),
    (work_side.hooks_get_all, deliver_unsigned),
]


@pytest.mark.parametrize("checker", CHECKERS, ids=lambda checker: checker.__name__)
def test_a_verdict_names_an_invariant_of_its_checker(checker: Checker) -> None:
    assert checker(good()).invariant in (checker.__doc__ or "").partition(":")[0].split(", ")


@pytest.mark.parametrize("checker", CHECKERS, ids=lambda checker: checker.__name__)
def test_a_good_history_is_accepted(checker: Checker) -> None:
    said = checker(good())
    assert said.holds is True, said


@pytest.mark.parametrize(
    ("checker", "spoil"), BAD, ids=[f"{checker.__name__}-{spoil.__name__}" for checker, spoil in BAD]
)
def test_a_bad_history_is_refused(checker: Checker, spoil: Callable[[History], None]) -> None:
    history = good()
    spoil(history)
    said = checker(history)
    assert said.holds is False
    assert said.text


def test_every_checker_is_shown_a_bad_history() -> None:
    assert {checker for checker, _ in BAD} == set(CHECKERS)


@pytest.mark.parametrize("checker", CHECKERS, ids=lambda checker: checker.__name__)
def test_a_checker_that_saw_nothing_says_that_it_does_not_know(checker: Checker) -> None:
    assert checker(History()).holds is None


def test_unknown_is_a_failure_unless_the_run_could_not_show_it() -> None:
    said = verdicts(History())
    assert len(failures(said)) == len(said)
    assert not failures(said, {one.invariant for one in said})


def test_a_run_in_which_too_little_happened_proves_nothing() -> None:
    wanted = {"ack": 1, "crash": 1, "reconnect": 1}
    assert work_side.proved_something(good(), wanted).holds is True
    for name in wanted:
        history = good()
        history.counts[name] = 0
        assert work_side.proved_something(history, wanted).holds is None


def test_who_is_told_that_it_begins_anew_may_begin_anywhere() -> None:
    for kind in ("snapshot", "reset", "skipped"):
        history = good()
        at = applied(history)
        at[1:3] = [Applied("user/1", TWICE, kind)]
        assert client_side.applied_in_order(history).holds is True
        assert client_side.resumes_go_on(history).holds is True
