"""docs/operating.md, "Exit codes": what went wrong, as a number for scripts."""

import pytest

from huahuo.errors import ConfigError, HuahuoError
from huahuo.eventstore.errors import Damaged, EventStoreError
from huahuo.options import code_of_answer, code_of_failure


@pytest.mark.parametrize(
    ("error", "answer", "failure"),
    [
        (Damaged(7, "another body"), 1, 1),
        (LookupError("nothing ever happened to order/7"), 1, 1),
        (EventStoreError("no log"), 2, 1),
        (HuahuoError("no service"), 2, 1),
        (ConfigError("no such setting"), 2, 2),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_an_error_ends_a_question_and_an_order_with_these_codes(
    error: Exception, answer: int, failure: int
) -> None:
    assert (code_of_answer(error), code_of_failure(error)) == (answer, failure)
