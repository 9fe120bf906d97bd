"""The event that records an access to a log. Pure."""

from collections.abc import Mapping

from huahuo.eventstore.ambient import json_bytes, rfc3339
from huahuo.eventstore.core.receipts import AUDIT_STREAM
from huahuo.eventstore.model import NewEvent

RECORDED = "audit_recorded"
WHAT_BYTES_MAX = 16 << 10


def recorded_event(action: str, what: Mapping[str, object], now_ms: int) -> NewEvent:
    """The event that records an action and its query.

    Raises:
        ValueError: `what` is larger than `WHAT_BYTES_MAX`.
    """
    body = json_bytes({"type": RECORDED, "timestamp": rfc3339(now_ms), "action": action, "what": dict(what)})
    if len(body) > WHAT_BYTES_MAX:
        raise ValueError(f"what: at most {WHAT_BYTES_MAX} bytes")
    return NewEvent(AUDIT_STREAM, RECORDED, body)
