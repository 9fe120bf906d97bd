"""An actor that fails when it is told to, and what its end is reported to."""

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

from huahuo.actors import Escalate, LoopActor, LoopRef, Reason, Restart, Runtime, Supervision
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.testing.virtual_loop import run_virtual


class Fragile(LoopActor):
    """Fails on "boom". `starts` is shared by all successive objects of one ref."""

    supervision: ClassVar[Supervision] = Restart(jitter=0)

    def __init__(self, log: list[Any]) -> None:
        super().__init__()
        self.log = log
        self.count = 0

    def on_start(self) -> None:
        self.log.append("start")

    def on_receive(self, message: Any) -> Any:
        if message == "boom":
            self.log.append("boom")
            raise ValueError("a secret")
        self.count += 1
        self.log.append(message)
        return self.count

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        self.log.append("on_failure")

    def on_stop(self) -> None:
        self.log.append("on_stop")


class Once(Fragile):
    """As Fragile, but a message that killed it is not redelivered."""

    supervision = Restart(jitter=0, redeliver=False)


class Child(Fragile):
    """Its parent decides what follows."""

    supervision = Escalate()


def watched(ref: LoopRef[Any]) -> list[Reason]:
    """A list that gets the reason of the actor's end."""
    reasons: list[Reason] = []
    ref.on_terminated(lambda end: reasons.append(end.reason))
    return reasons


def with_give_up_hook(
    play: Callable[[Runtime, list[tuple[LoopRef[Any], str]]], Any],
) -> list[tuple[LoopRef[Any], str]]:
    """Run `play` in a world whose runtime reports the actors it gives up on."""
    given_up: list[tuple[LoopRef[Any], str]] = []

    async def main() -> None:
        runtime = Runtime(
            asyncio.get_running_loop(),
            ambient=FakeAmbient(),
            on_give_up=lambda ref, why: given_up.append((ref, why)),
        )
        await play(runtime, given_up)
        await runtime.stop()

    run_virtual(main())
    return given_up
