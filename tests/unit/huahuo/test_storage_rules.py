"""The rules of retention as the setting writes them, and of which streams whole events may go."""

import pytest

from huahuo.actors.plugins.past import Past
from huahuo.eventstore.care.pruning import RetentionRule
from huahuo.storage.upkeep import facts_of, rules_of

DAY_MS = 86_400_000


def test_a_rule_has_a_pattern_and_a_span_or_a_size_or_both() -> None:
    assert rules_of(("group/*=30d", "chat/*=500MiB", "ds/*=7d 1GiB", "group/kept=forever")) == [
        RetentionRule(streams="group/*", older_than_ms=30 * DAY_MS),
        RetentionRule(streams="chat/*", bytes_max=500 << 20),
        RetentionRule(streams="ds/*", older_than_ms=7 * DAY_MS, bytes_max=1 << 30),
        RetentionRule(streams="group/kept"),
    ]


@pytest.mark.parametrize("text", ["group/*", "=30d", "group/*=", "group/*=soon", "group/*=5 GiB", "a=-1d"])
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"rule|span"):
        rules_of((text,))


def test_whole_events_go_only_of_streams_that_no_entity_folds() -> None:
    is_free = facts_of(Past(), {"order", "mailbox"}).is_free
    free = ("group/ops", "system", "ds/a/b", "chat/1")
    folded = (
        "user/1",
        "order/1",
        "mailbox/1",
        "roster/1",
        "audit",
        "auth",
        "log",
        "effect/mailbox/1",
        "job/1",
    )
    assert [is_free(one) for one in (*free, *folded)] == [True] * len(free) + [False] * len(folded)
