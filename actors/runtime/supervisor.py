"""Carries out the decision about a failed actor: restart in place, stop, or escalate.

`huahuo.actors.actor.restart` decides. This module has the timer, the hooks, the log lines and the swap of the
actor object. Log lines name types, never an exception's text, which may quote a secret.
"""

import asyncio
from collections.abc import Callable
from inspect import iscoroutine
from typing import Any, Protocol, assert_never, cast

import structlog

from huahuo.actors.actor.errors import where
from huahuo.actors.actor.inbox import DEAD, SUSPENDED, Inbox
from huahuo.actors.actor.loop_actor import LoopActor, build
from huahuo.actors.actor.messages import Control, Envelope, Escalated, Order, Reason, Redelivered, Urgent
from huahuo.actors.actor.refs import LoopRef
from huahuo.actors.actor.restart import Escalate, GiveUp, Restart, RestartAfter, Stop, after_failure
from huahuo.eventstore.ambient import Ambient

_log = structlog.get_logger("actors")

type GiveUpHook = Callable[[LoopRef[Any], str], None]
"""Called with an actor that is stopped for good and the reason: "KeyError, 6 failures in 60 s"."""


class Lifecycle(Protocol):
    """The part of the runtime that the supervisor uses."""

    loop: asyncio.AbstractEventLoop
    ambient: Ambient
    restarts: int

    def end(self, inbox: Inbox, reason: Reason) -> None:
        """End an actor."""
        ...

    def suspend(self, inbox: Inbox, retry: Envelope[Any] | None) -> None:
        """Give an actor's inbox no turns. `retry` goes back to its front."""
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

    def __init__(self, world: Lifecycle, on_give_up: GiveUpHook | None) -> None:
        self._world = world
        self._on_give_up = on_give_up

    async def failed(self, inbox: Inbox, envelope: Envelope[Any], error: BaseException) -> None:
        """Decide about an actor whose handling of `envelope` has failed. Leaves it dead or suspended."""
        actor = cast("LoopActor", inbox.actor)
        policy = Stop() if inbox.stopped is True else actor.supervision
        match policy:
            case Stop():
                await self._end(inbox, envelope, error, Reason.FAILED)
            case Escalate():
                parent = inbox.extras.parent
                await self._end(inbox, envelope, error, Reason.FAILED)
                self._escalate(parent, actor, error)
            case Restart():
                await self._restart_or_end(policy, inbox, envelope, error)
            case _:
                assert_never(policy)

    async def restart_now(self, inbox: Inbox) -> None:
        """Swap the actor object on request. This is not a failure."""
        actor = cast("LoopActor", inbox.actor)
        timer, inbox.extras.timer = inbox.extras.timer, None
        if timer is not None:  # the actor has failed already, and its hook has run
            timer.cancel()
        elif (trouble := await _hook(actor.on_stop)) is not None:
            _log_hook(actor, trouble)
        self._world.suspend(inbox, None)
        self._swap(inbox)

    async def _restart_or_end(
        self, policy: Restart, inbox: Inbox, envelope: Envelope[Any], error: BaseException
    ) -> None:
        actor = cast("LoopActor", inbox.actor)
        retry = self._second_chance(policy, actor, envelope)
        world = self._world
        verdict = after_failure(policy, inbox.extras.failures, world.loop.time(), world.ambient.random())
        inbox.extras.failures = verdict.failures
        failures = len(verdict.failures)
        match verdict:
            case GiveUp():
                await self._end(inbox, envelope, error, Reason.GAVE_UP)
                self._give_up(actor, f"{type(error).__name__}, {failures} failures in {policy.window_s:g} s")
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
                world.suspend(inbox, retry)
                inbox.extras.timer = world.loop.call_later(delay_s, self._swap, inbox)
            case _:
                assert_never(verdict)

    def _second_chance(
        self, policy: Restart, actor: LoopActor, envelope: Envelope[Any]
    ) -> Envelope[Any] | None:
        """The message to handle again after the restart; None if there is none."""
        if envelope.reply_to is not None or (
            isinstance(envelope, Control) and not isinstance(envelope, Urgent)
        ):
            return None  # the runtime's own message, or an ask whose sender was told
        if policy.redeliver and not isinstance(envelope, Redelivered | Urgent):
            return Redelivered(envelope.message)
        self._world.dead_letter(type(actor).__name__, envelope, "poison")
        return None

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

    def _escalate(self, parent: Inbox | None, child: LoopActor, error: BaseException) -> None:
        if parent is not None and parent.state not in (DEAD, SUSPENDED):
            parent.put_unbounded(Control(Escalated(str(child), error)))
        elif parent is None:
            self._give_up(child, f"{type(error).__name__}, and no parent")

    def _give_up(self, actor: LoopActor, why: str) -> None:
        _log.error("actor_gave_up", actor=str(actor), reason=why)
        if self._on_give_up is not None:
            try:
                self._on_give_up(actor.actor_ref, why)
            except Exception as trouble:  # noqa: BLE001  user code
                _log_hook(actor, trouble)


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
