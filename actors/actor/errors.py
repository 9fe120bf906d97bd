"""The errors of the actor runtime, besides pykka's own `ActorDeadError` and `Timeout`.

Exception
 +- InboxFull          a `tell` on a loop found no room: wait with `tell_async`, or answer "busy"
 +- HandlerCancelled   the handler of an ask was cancelled before it had an answer
 +- pykka.Timeout
     +- AskTimeout     no answer in time; the message may still be handled later
"""

import traceback
from typing import Final

from pykka import Timeout

_FRAMES_MAX: Final = 5


class InboxFull(Exception):  # noqa: N818  the field's own term
    """An actor's inbox holds `limit` messages, and the sender may not block."""

    def __init__(self, actor: str, limit: int) -> None:
        super().__init__(f"the inbox of {actor} holds {limit} messages")
        self.limit = limit


class HandlerCancelled(Exception):  # noqa: N818
    """The handler was cancelled. Not a CancelledError, because the asker itself was not cancelled."""


class AskTimeout(Timeout, TimeoutError):  # noqa: N818
    """No answer within the asker's deadline. The outcome is unknown."""

    def __init__(self, actor: str, timeout_s: float) -> None:
        super().__init__(f"{actor} did not answer within {timeout_s} s")
        self.timeout_s = timeout_s


def where(error: BaseException) -> str:
    """The places of an exception's traceback, innermost first: `a.py:12 in f < b.py:3 in g`.

    For log lines: an exception's text may quote a secret, its places cannot contain one.
    """
    frames = traceback.extract_tb(error.__traceback__, limit=-_FRAMES_MAX)
    places = (f"{frame.filename.rpartition('/')[2]}:{frame.lineno} in {frame.name}" for frame in frames)
    return " < ".join(reversed(list(places))) or "unknown"
