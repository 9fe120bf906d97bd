"""What tests of actors share: a world to run them in, and actors that remember."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

from huahuo.actors import LoopActor, LoopRef, Runtime
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.testing.world import run_virtual
from tests.support.patience import WITHIN_S


def in_world[T](play: Callable[[Runtime], Awaitable[T]], seed: int | None = None) -> T:
    """Run `play` with a runtime on a virtual loop, seeded or not, and stop all actors after it."""

    async def main() -> T:
        rng = None if seed is None else random.Random(seed)
        runtime = Runtime(asyncio.get_running_loop(), rng=rng, ambient=FakeAmbient(seed or 0))
        try:
            return await play(runtime)
        finally:
            await runtime.stop()

    return run_virtual(main())


async def settled(runtime: Runtime) -> None:
    """Wait until no inbox waits for a turn. Handlers may still be suspended."""
    await until(lambda: runtime.resting)


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until `condition` holds, for work of another thread."""
    async with asyncio.timeout(WITHIN_S):
        while not condition():  # noqa: ASYNC110  nothing to wait for: that is what it looks at
            await asyncio.sleep(0)


def actor_of[A: LoopActor](ref: LoopRef[A]) -> A:
    """The object behind a live ref: tests look at state that users cannot see."""
    actor = ref.actor
    assert actor is not None
    return actor


class Recorder(LoopActor):
    """Keeps what it receives, in order; answers each message with itself."""

    def __init__(self, into: list[Any] | None = None) -> None:
        super().__init__()
        self.seen: list[Any] = [] if into is None else into

    def on_receive(self, message: Any) -> Any:
        self.seen.append(message)
        return message


class Gated(LoopActor):
    """Handles nothing before its gate opens. `max_inside` shows whether handlers overlapped."""

    inbox_limit = 4

    def __init__(self, gate: asyncio.Event, into: list[Any] | None = None) -> None:
        super().__init__()
        self.gate = gate
        self.seen: list[Any] = [] if into is None else into
        self.inside = self.max_inside = 0

    async def on_receive(self, message: Any) -> Any:
        self.inside += 1
        self.max_inside = max(self.max_inside, self.inside)
        await self.gate.wait()
        self.seen.append(message)
        self.inside -= 1
        return message
