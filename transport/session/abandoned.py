"""Which messages of a client that is gone need not be handled: those that only ask for something. Pure.

Commands are carried out although nobody waits for their answers, and acks are kept.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from huahuo.actors.plugins.actions import Action

BYTES_MAX: Final = 4 << 10
"""A longer message is not looked at, and is handled: what only asks is short."""
_ASKING: Final = frozenset({"heartbeat", "heartbeat_response", "subscribe", "unsubscribe"})


class _Message(msgspec.Struct):
    action: str = ""


_message_of = msgspec.json.Decoder(_Message).decode


def only_asks(data: str | bytes, specs: Mapping[str, Action]) -> bool:
    """Whether this message changes nothing that outlives its connection. False also if it cannot be read."""
    if len(data) > BYTES_MAX:
        return False
    try:
        action = _message_of(data).action
    except (msgspec.DecodeError, UnicodeError):
        return False
    spec = specs.get(action)
    return action in _ASKING if spec is None else spec.query
