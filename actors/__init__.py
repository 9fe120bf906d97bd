"""pykka's actors on one asyncio loop: supervised, bounded, and cheap enough for 100,000 of them.

Rooms: `actor` (one actor, and the loop that actors run on), `entities` (event-sourced actors),
`plugins` (what a plug-in brings and may use).
Exports the names of `__all__`, each imported on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if __name__ != "huahuo.actors":  # the repository's root is on the path, so Python finds this folder too
    raise ImportError("import huahuo.actors, not actors")

if TYPE_CHECKING:
    from pykka import ActorDeadError

    from huahuo.actors.actor.loop_actor import LoopActor
    from huahuo.actors.actor.messages import (
        AskTimeout,
        DeadLetter,
        HandlerCancelled,
        InboxFull,
        LoopFuture,
        Reason,
    )
    from huahuo.actors.actor.refs import ASK_TIMEOUT_S, LoopRef, ask
    from huahuo.actors.actor.restart import Restart, Stop, Supervision
    from huahuo.actors.actor.runtime import Runtime

__all__ = [
    "ASK_TIMEOUT_S",
    "ActorDeadError",
    "AskTimeout",
    "DeadLetter",
    "HandlerCancelled",
    "InboxFull",
    "LoopActor",
    "LoopFuture",
    "LoopRef",
    "Reason",
    "Restart",
    "Runtime",
    "Stop",
    "Supervision",
    "ask",
]

_HOMES = {
    "ActorDeadError": "pykka",
    "AskTimeout": "huahuo.actors.actor.messages",
    "HandlerCancelled": "huahuo.actors.actor.messages",
    "InboxFull": "huahuo.actors.actor.messages",
    "LoopFuture": "huahuo.actors.actor.messages",
    "LoopActor": "huahuo.actors.actor.loop_actor",
    "DeadLetter": "huahuo.actors.actor.messages",
    "Reason": "huahuo.actors.actor.messages",
    "ASK_TIMEOUT_S": "huahuo.actors.actor.refs",
    "LoopRef": "huahuo.actors.actor.refs",
    "ask": "huahuo.actors.actor.refs",
    "Restart": "huahuo.actors.actor.restart",
    "Stop": "huahuo.actors.actor.restart",
    "Supervision": "huahuo.actors.actor.restart",
    "Runtime": "huahuo.actors.actor.runtime",
}


if not TYPE_CHECKING:  # type checkers use the imports above

    def __getattr__(name: str) -> object:
        """Import an exported name on first use."""
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(home), name)
        return value
