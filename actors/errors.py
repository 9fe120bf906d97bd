"""What the actor runtime raises beside pykka's own `ActorDeadError` and `Timeout`.

Exception
 +- InboxFull          a `tell` on a loop found no room: wait with `tell_async`, or say "busy"
 +- HandlerCancelled   the handler of an ask was cancelled before it had an answer
 +- pykka.Timeout
     +- AskTimeout     no answer in time; the message may still be handled later
"""

from pykka import Timeout


class InboxFull(Exception):  # noqa: N818  the field's own term
    """An actor's inbox holds `limit` messages and the sender may not block."""

    def __init__(self, actor: str, limit: int) -> None:
        super().__init__(f"the inbox of {actor} holds {limit} messages")
        self.limit = limit


class HandlerCancelled(Exception):  # noqa: N818
    """The handler was cancelled. Not a CancelledError: the asker itself was not cancelled."""


class AskTimeout(Timeout, TimeoutError):  # noqa: N818
    """No answer within the asker's deadline; the outcome is unknown."""

    def __init__(self, actor: str, timeout_s: float) -> None:
        super().__init__(f"{actor} did not answer within {timeout_s} s")
        self.timeout_s = timeout_s
