"""Errors on their way from the owner to a worker: by name, and only those that a caller treats specially."""

from typing import Final

from huahuo.actors.actor.errors import AskTimeout, HandlerCancelled, InboxFull
from huahuo.actors.entities.errors import Busy, Degraded
from huahuo.eventstore.errors import Closed, Corrupt, QueueFull, TooLarge, Unavailable
from huahuo.transport.server.turns import Crowded

_KINDS: Final[dict[str, type[Exception]]] = {
    kind.__name__: kind
    for kind in (
        AskTimeout, Busy, Closed, Crowded, Degraded, HandlerCancelled, InboxFull, QueueFull, TimeoutError,
        TooLarge, Unavailable,
    )
}  # fmt: skip
_CORRUPT: Final = "Corrupt"
UNAVAILABLE: Final = Unavailable.__name__


class OwnerFailed(Exception):  # noqa: N818  a fact about the owner
    """The owner met a fault of its own, which is in its log."""


def named(error: BaseException) -> tuple[str, str]:
    """The kind of an error, and its text."""
    if isinstance(error, Corrupt):
        return _CORRUPT, f"{error.place}\n{error.reason}"
    for kind in type(error).__mro__:
        if kind.__name__ in _KINDS:
            return kind.__name__, str(error)
    return "", type(error).__name__


def raised(kind: str, text: str) -> Exception:
    """The error of this kind."""
    if kind == _CORRUPT:
        place, _, why = text.partition("\n")
        return Corrupt(place, why)
    found = _KINDS.get(kind, OwnerFailed)
    error = found.__new__(found)  # not by its `__init__`: some are made of facts, of which only the text came
    error.args = (text,)
    return error
