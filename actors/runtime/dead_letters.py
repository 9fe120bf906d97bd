"""The end of messages that will not be handled: the sender is told, or the message is counted."""

import contextlib
import queue
from collections import deque
from typing import Any, Final

from pykka import ActorDeadError
from pykka.messages import _ActorStop  # private: a stop of a dead actor counts as done

from huahuo.actors.actor.messages import Control, DeadLetter, Envelope, Urgent

KEPT: Final = 16


class DeadLetters:
    """The number of dead letters since the start, and the type names of the last few."""

    def __init__(self) -> None:
        self.count = 0
        self.recent: deque[DeadLetter] = deque(maxlen=KEPT)

    def take(self, actor: str, envelope: Envelope[Any], why: str) -> None:
        """Tell the asker that the actor is dead, or count a message that has no asker."""
        message = envelope.message
        if envelope.reply_to is not None:
            if isinstance(message, _ActorStop):
                answer(envelope, None)
            else:
                refuse(envelope, ActorDeadError(f"{actor} stopped before handling the message"))
        elif isinstance(envelope, Urgent) or not (
            isinstance(envelope, Control) or isinstance(message, _ActorStop)
        ):
            self.count += 1
            self.recent.append(DeadLetter(actor, type(message).__name__, why))


def answer(envelope: Envelope[Any], value: object) -> None:
    """Answer an ask. If the asker itself has already set its future, the answer is dropped."""
    if envelope.reply_to is not None:
        try:  # noqa: SIM105  `suppress` costs more than the answer itself
            envelope.reply_to.set(value)
        except queue.Full:
            pass


def refuse(envelope: Envelope[Any], error: BaseException) -> None:
    """Answer an ask with an exception."""
    if envelope.reply_to is not None:
        with contextlib.suppress(queue.Full):
            envelope.reply_to.set_exception((type(error), error, error.__traceback__))
