"""Every message that nobody will handle ends here: its sender is told, or it is counted."""

import contextlib
import queue
from collections import deque
from typing import Any, Final

from pykka import ActorDeadError
from pykka.messages import _ActorStop  # private: a stop that comes too late has succeeded

from huahuo.actors.actor.messages import Control, DeadLetter, Envelope, Terminated

KEPT: Final = 16


class DeadLetters:
    """The count since the start, and the last few by name."""

    def __init__(self) -> None:
        self.count = 0
        self.recent: deque[DeadLetter] = deque(maxlen=KEPT)

    def take(self, actor: str, envelope: Envelope[Any], why: str) -> None:
        """Tell the asker of a message that the actor is dead; count a message without an asker."""
        message = envelope.message
        if envelope.reply_to is not None:
            if isinstance(message, _ActorStop):
                answer(envelope, None)
            else:
                refuse(envelope, ActorDeadError(f"{actor} stopped before handling the message"))
        elif not isinstance(envelope, Control) and not isinstance(message, _ActorStop | Terminated):
            self.count += 1
            self.recent.append(DeadLetter(actor, type(message).__name__, why))


def answer(envelope: Envelope[Any], value: object) -> None:
    """Answer an ask. An asker that has put an answer there itself harms nobody."""
    if envelope.reply_to is not None:
        try:  # noqa: SIM105  `suppress` would take longer than the answer itself
            envelope.reply_to.set(value)
        except queue.Full:
            pass


def refuse(envelope: Envelope[Any], error: BaseException) -> None:
    """Answer an ask with an exception."""
    if envelope.reply_to is not None:
        with contextlib.suppress(queue.Full):
            envelope.reply_to.set_exception((type(error), error, error.__traceback__))
