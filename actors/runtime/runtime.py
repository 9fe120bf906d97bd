"""`Runtime`: starts, counts and stops actors. A process may have several."""

import asyncio
import contextlib
import threading
from typing import Any, Final

from pykka import ActorRegistry

from huahuo.actors.actor import registry
from huahuo.actors.actor.future import forbid_blocking
from huahuo.actors.actor.inbox import BUSY, HOOK, SUSPENDED, Inbox
from huahuo.actors.actor.loop_actor import LoopActor, build
from huahuo.actors.actor.messages import DeadLetter, Reason
from huahuo.actors.actor.refs import LoopRef
from huahuo.actors.actor.restart import Restart
from huahuo.actors.runtime.door import Door
from huahuo.actors.runtime.scheduler import Choice
from huahuo.eventstore.ambient import Ambient, SystemAmbient
from huahuo.eventstore.cancelling import cancel_all

THROUGHPUT: Final = 32
SLICE_S: Final = 0.002
# A cancelled handler may take this long to clean up.
CANCEL_TIMEOUT_S: Final = 1.0


class Runtime(Door):
    """Starts actors on one loop.

    Args:
        loop: The loop to run on. None: a new loop on its own thread, until `close()`.
        ambient: The source of ids and jitter.
        rng: Seeded mode: a turn is one message, and chance picks the next inbox.
        throughput: At most this many messages of one actor before the next actor's turn.
        slice_s: Actors hold the loop at most this long before sockets and timers have it.

    Attributes:
        alive: Actors that have not ended.
        restarts: Restarts so far.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop | None = None,
        *,
        ambient: Ambient | None = None,
        rng: Choice | None = None,
        throughput: int = THROUGHPUT,
        slice_s: float = SLICE_S,
    ) -> None:
        registry.install()
        super().__init__(
            loop or asyncio.new_event_loop(), ambient or SystemAmbient(), rng, throughput, slice_s
        )
        self._thread: threading.Thread | None = None
        if loop is None:
            self._thread = threading.Thread(target=self.loop.run_forever, name="actors", daemon=True)
            self._thread.start()

    @property
    def dead_letters(self) -> int:
        """The number of messages that were not handled and whose sender was not told."""
        return self._letters.count

    @property
    def recent_dead_letters(self) -> tuple[DeadLetter, ...]:
        """The last few dead letters, with type names."""
        return tuple(self._letters.recent)

    @property
    def queued(self) -> int:
        """The number of messages that wait in all inboxes."""
        return self.received - self._taken

    @property
    def resting(self) -> bool:
        """Whether no inbox waits for its turn. Suspended handlers do not count."""
        return self._scheduler.resting

    def start[A: LoopActor](self, actor_class: type[A], *args: Any, **kwargs: Any) -> LoopRef[A]:
        """Start an actor with these arguments for its class. Callable from any thread."""
        if self.loop.is_closed():
            raise RuntimeError("the runtime's loop is closed")
        inbox = Inbox(self, actor_class.inbox_limit)
        actor = build(actor_class, inbox, args, kwargs)
        if isinstance(actor_class.supervision, Restart):
            actor._keep_arguments(args, kwargs)  # noqa: SLF001  ours
        registry.register(actor.actor_ref)
        with self.lock:
            self.alive += 1
        actor._start_actor_loop()  # noqa: SLF001  pykka's own
        return actor.actor_ref

    async def stop(self, timeout_s: float = 10.0) -> bool:
        """Ask every actor to stop after the messages in its inbox, the last started first.

        After `timeout_s`, running handlers are cancelled and waiting messages are answered with
        ActorDeadError. True: no handler had to be cancelled. Await it on the runtime's own loop, but not in
        one of its actors, which would wait for itself.

        Raises:
            RuntimeError: this is another loop.
        """
        if asyncio.get_running_loop() is not self.loop:
            raise RuntimeError("stop() belongs on the runtime's own loop")
        refs = self._refs()
        stopping = [ref.stop(block=False) for ref in refs]
        for ref in refs:
            if ref.actor_inbox.state == SUSPENDED:
                ref.stop_now()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                for stopped in stopping:
                    await stopped
                while self._background:
                    await asyncio.wait(self._background)
        stragglers = self._refs()
        running = set(self._background)
        for ref in stragglers:
            running |= self._abort(ref)
        await cancel_all(running, CANCEL_TIMEOUT_S)
        return not running and not stragglers

    def close(self, timeout_s: float = 10.0) -> None:
        """Stop every actor and end the runtime's own loop and thread. Call it on a thread without a loop.

        Raises:
            RuntimeError: the loop was handed in, or this thread runs a loop.
        """
        forbid_blocking("close()")
        if self._thread is None:
            raise RuntimeError("the loop belongs to the caller: await stop() there")
        asyncio.run_coroutine_threadsafe(self.stop(timeout_s), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def _refs(self) -> list[LoopRef[Any]]:
        """The live actors of this runtime, the last started first."""
        return [
            ref
            for ref in reversed(ActorRegistry.get_all())
            if isinstance(ref, LoopRef) and ref.actor_inbox.runtime is self
        ]

    def _abort(self, ref: LoopRef[Any]) -> set[asyncio.Task[None]]:
        """End an actor that did not stop. Returns its running tasks, to be cancelled."""
        inbox = ref.actor_inbox
        registry.unregister(ref)
        inbox.stop()
        if inbox.state in (BUSY, HOOK) and inbox.task is not None:
            return {inbox.task}
        self.end(inbox, Reason.STOPPED)
        return set()
