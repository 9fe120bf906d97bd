"""pykka's actors on one asyncio loop: supervised, bounded, and cheap enough for 100,000 of them."""

from pykka import ActorDeadError

from actors.errors import AskTimeout, HandlerCancelled, InboxFull
from actors.future import LoopFuture
from actors.loop_actor import LoopActor
from actors.messages import DeadLetter, Reason, Terminated
from actors.refs import ASK_TIMEOUT_S, LoopRef, ask
from actors.restart import Escalate, Restart, Stop, Supervision
from actors.runtime import Runtime

__all__ = [
    "ASK_TIMEOUT_S",
    "ActorDeadError",
    "AskTimeout",
    "DeadLetter",
    "Escalate",
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
    "Terminated",
    "ask",
]
