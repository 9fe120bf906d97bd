"""Small decisions of the protocol: where a subscription begins, close codes, and rates without a limit."""

from huahuo.eventstore.model import Head
from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.protocol.dialects import DOCUMENT, V1
from huahuo.transport.protocol.flow_control import TokenBucket
from huahuo.transport.protocol.kinds import Outcome, place


def test_from_the_start_is_before_the_first_event_and_a_gap_where_that_is_gone() -> None:
    whole = place(Head(first=1, seq=9, link=b""), "start", same_log=False)
    assert (whole.outcome, whole.after) == (Outcome.RESUMED, 0)
    assert place(Head(first=2, seq=9, link=b""), "start", same_log=False).outcome is Outcome.GAP


def test_a_dialect_changes_the_close_codes_that_it_names_and_no_other() -> None:
    assert DOCUMENT.close_code(CloseCode.DRAINING) == CloseCode.RESTART
    assert DOCUMENT.close_code(CloseCode.REVOKED) == CloseCode.REVOKED
    assert V1.close_code(CloseCode.DRAINING) == CloseCode.DRAINING


def test_a_rate_of_nothing_is_no_limit() -> None:
    bucket = TokenBucket(0, 1, 0.0)
    assert all(bucket.take(0.0) for _ in range(10))
    assert bucket.wait_s(0.0) == 0.0
