"""An error of the owner reaches a worker as the same kind, whatever it is made of."""

import pytest

from huahuo.actors.actor.messages import AskTimeout, HandlerCancelled, InboxFull
from huahuo.actors.entities.decider import Busy, Degraded
from huahuo.eventstore.errors import Closed, Corrupt, QueueFull, TooLarge, Unavailable
from huahuo.transport.load.fair_queueing import Crowded
from huahuo.transport.workers.channel import OwnerFailed, error_named, error_raised

TOLD = [
    AskTimeout("user/42", 30), InboxFull("user/42", 256), HandlerCancelled("stopped"), Busy("the inbox"),
    Degraded("user/42"), Closed("the log"), Corrupt("user/42", "not JSON"), QueueFull("the queue"),
    TooLarge("the event"), Unavailable("the disk"), TimeoutError("late"), Crowded("user/42"),
]  # fmt: skip


@pytest.mark.parametrize("error", TOLD, ids=lambda error: type(error).__name__)
def test_an_error_that_callers_treat_specially_arrives_as_its_kind_with_its_text(error: Exception) -> None:
    made = error_raised(*error_named(error))
    assert (type(made), str(made)) == (type(error), str(error))


def test_any_other_error_arrives_as_a_failure_of_the_owner() -> None:
    assert type(error_raised(*error_named(KeyError("a secret")))) is OwnerFailed
