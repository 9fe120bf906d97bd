"""Carries out the decision about a failed actor: restart in place, or stop.

`huahuo.actors.actor.restart` decides. This module has the timer, the hooks, the log lines and the swap of the
actor object. Log lines name types, never an exception's text, which may quote a secret.
"""

import asyncio
from collections.abc import Callable
from inspect import iscoroutine
from typing import Any, Protocol, assert_never, cast

import structlog

from huahuo.actors.actor.errors import where
from huahuo.actors.actor.inbox import SUSPENDED, Inbox
from huahuo.actors.actor.loop_actor import LoopActor, build
from huahuo.actors.actor.messages import Control, Envelope, Order, Reason, Urgent
from huahuo.actors.actor.restart import GiveUp, Restart, RestartAfter, Stop, after_failure
from huahuo.eventstore.ambient import Ambient

_log = structlog.get_logger("actors")


class Lifecycle(Protocol):
    """The part of the runtime that the supervisor uses."""

    loop: asyncio.AbstractEventLoop
    ambient: Ambient
    restarts: int

    def end(self, inbox: Inbox, reason: Reason) -> None:
        """End an actor."""
        ...

    def suspend(self, inbox: Inbox) -> None:
        """Give an actor's inbox no turns."""
        ...

    def begin(self, inbox: Inbox) -> None:
        """Start the inbox's actor, and then let it handle waiting messages."""
        ...

    def fail(self, inbox: Inbox, envelope: Envelope[Any], error: BaseException) -> None:
        """Hand a failure to the supervisor."""
        ...

    def dead_letter(self, actor: str, envelope: Envelope[Any], why: str) -> None:
        """Answer or count a message that will not be handled."""
        ...


class Supervisor:
    """Each runtime has one. All methods run on its loop."""

    def __init__(self, world: Lifecycle) -> None:
        self._world = world

    async def failed(self, inbox: Inbox, envelope: Envelope[Any], error: BaseException) -> None:
        """Decide about an actor whose handling of `envelope` has failed. Leaves it dead or suspended."""
        policy = Stop() if inbox.stopped is True else cast("LoopActor", inbox.actor).supervision
        match policy:
            case Stop():
                await self._end(inbox, envelope, error, Reason.FAILED)
            case Restart():
                await self._restart_or_end(policy, inbox, envelope, error)
            case _:
                assert_never(policy)

    async def _restart_or_end(
        self, policy: Restart, inbox: Inbox, envelope: Envelope[Any], error: BaseException
    ) -> None:
        actor = cast("LoopActor", inbox.actor)
        if not isinstance(envelope, Control) or isinstance(envelope, Urgent):
            self._world.dead_letter(type(actor).__name__, envelope, "poison")
        world = self._world
        verdict = after_failure(policy, inbox.extras.failures, world.loop.time(), world.ambient.random())
        inbox.extras.failures = verdict.failures
        failures = len(verdict.failures)
        match verdict:
            case GiveUp():
                await self._end(inbox, envelope, error, Reason.GAVE_UP)
                why = f"{type(error).__name__}, {failures} failures in {policy.window_s:g} s"
                _log.error("actor_gave_up", actor=str(actor), reason=why)
            case RestartAfter(delay_s):
                _log.warning(
                    "actor_restarts",
                    actor=str(actor),
                    error=type(error).__name__,
                    at=where(error),
                    failures=failures,
                    delay_s=round(delay_s, 3),
                )
                if (trouble := await self._on_failure(actor, envelope, error)) is not None:
                    _log_hook(actor, trouble)
                world.suspend(inbox)
                inbox.extras.timer = world.loop.call_later(delay_s, self._swap, inbox)
            case _:
                assert_never(verdict)

    def _swap(self, inbox: Inbox) -> None:
        """Put a new actor object behind the same inbox and let it start."""
        if inbox.state != SUSPENDED:
            return
        inbox.extras.timer = None
        self._world.restarts += 1
        previous = cast("LoopActor", inbox.actor)
        args, kwargs = previous._arguments()  # noqa: SLF001  ours
        try:
            build(type(previous), inbox, args, kwargs)
        except Exception as error:  # noqa: BLE001  __init__ is user code
            self._world.fail(inbox, Control(Order.START), error)
        else:
            self._world.begin(inbox)

    async def _end(self, inbox: Inbox, envelope: Envelope[Any], error: BaseException, reason: Reason) -> None:
        """End an actor after an exception as pykka does: log, unregister, on_failure."""
        actor = cast("LoopActor", inbox.actor)
        actor._handle_failure(type(error), error, error.__traceback__)  # noqa: SLF001  pykka's own
        if (trouble := await self._on_failure(actor, envelope, error)) is not None:
            actor._handle_failure(type(trouble), trouble, trouble.__traceback__)  # noqa: SLF001
        self._world.end(inbox, reason)

    async def _on_failure(
        self, actor: LoopActor, envelope: Envelope[Any], error: BaseException
    ) -> BaseException | None:
        """Run the actor's hook. As in pykka, an actor that could not start has none."""
        if isinstance(envelope, Control) and envelope.message is Order.START:
            return None
        return await _hook(lambda: actor.on_failure(type(error), error, error.__traceback__))


async def _hook(hook: Callable[[], object]) -> BaseException | None:
    """Call a hook of user code, sync or async, and return the exception that it raises."""
    try:
        pending = hook()
        if iscoroutine(pending):
            await pending
    except (Exception, asyncio.CancelledError) as trouble:  # noqa: BLE001
        return trouble
    return None


def _log_hook(actor: LoopActor, trouble: BaseException) -> None:
    _log.error("actor_hook_failed", actor=str(actor), error=type(trouble).__name__, at=where(trouble))
