"""The entities of a service: their kinds, and the messages that wake them.

`ask` and `tell` wake an entity by its kind and key. It loads itself, and messages wait in its inbox in order
until it has. `residents` says which entities are in memory.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager
from itertools import batched
from typing import Any

from pykka import ActorDeadError

from huahuo.actors.actor.errors import AskTimeout, InboxFull
from huahuo.actors.actor.refs import LoopRef
from huahuo.actors.entities.decider import Decider
from huahuo.actors.entities.entity import Asked, CatchUp, Entity, Query, Told
from huahuo.actors.entities.errors import Busy
from huahuo.actors.entities.fairness import Fairness
from huahuo.actors.entities.inbox_bytes import InboxBytes
from huahuo.actors.entities.kind import Effects, Kind
from huahuo.actors.entities.residents import DirectoryLimits, Residents, ended
from huahuo.actors.entities.together import Together, load
from huahuo.actors.runtime.runtime import Runtime
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.core.fair_executor import acting_user
from huahuo.eventstore.deadline import Deadline
from huahuo.eventstore.model import Page
from huahuo.eventstore.port import Log
from huahuo.replay.history.keyframes import KeyframePolicy, KeyframeWriter
from huahuo.replay.live.feed import Feed

_LOADED_TOGETHER = 128
_LOADED_BYTES = 32 << 10
"""One read of many streams takes at most 4 MiB. A stream with more bytes is read alone."""


class Directory(Residents):
    """All entities of one runtime over one log. All methods belong to the loop's thread."""

    def __init__(
        self,
        runtime: Runtime,
        log: Log,
        feed: Feed,
        ambient: Ambient,
        *,
        limits: DirectoryLimits = DirectoryLimits(),  # noqa: B008  frozen
        keyframes: KeyframePolicy = KeyframePolicy(),  # noqa: B008  frozen
        fairness: Fairness | None = None,
    ) -> None:
        super().__init__(runtime, ambient, limits, KeyframeWriter(log, keyframes))
        self._log = log
        self._feed = feed
        self._fairness = fairness
        self._loads = asyncio.Semaphore(limits.loads_max)
        self._inbox_bytes = InboxBytes(limits.inbox_bytes_max, limits.inboxes_bytes_max)

    @property
    def kinds(self) -> Collection[str]:
        """The kinds that are registered."""
        return self._kinds.keys()

    @property
    def waiting_bytes(self) -> int:
        """Bytes that `hold` counts now."""
        return self._inbox_bytes.total

    def register(
        self,
        kind: str,
        decider: Decider[Any, Any, Any, Any],
        effects: Effects,
        *,
        stream_prefix: str | None = None,
        weigh: Callable[[Any], int] | None = None,
        keyframe_every: int = 0,
    ) -> None:
        """Register a kind of entity. Entity `key` folds the stream `<stream_prefix or kind>/<key>`.

        `keyframe_every`: events of a stream between two keyframes, 0: as the directory's policy says.

        Raises:
            ValueError: the kind is registered already, or its name has a "/".
        """
        if kind in self._kinds:
            raise ValueError(f"the kind {kind!r} is registered already")
        if "/" in kind:
            raise ValueError(f"the name of a kind has no slash: {kind!r}")
        self._kinds[kind] = Kind(
            kind,
            decider,
            stream_prefix=stream_prefix or kind,
            log=self._log,
            feed=self._feed,
            ambient=self._ambient,
            keyframes=self.keyframes,
            loads=self._loads,
            effects=effects,
            weigh=weigh,
            keyframe_every=keyframe_every,
            fairness=self._fairness,
        )

    def hold(self, kind: str, key: str | int, size: int) -> AbstractContextManager[None]:
        """Count a large message, `size` bytes in memory, from before it is made until it is answered.

        Entering the block raises:
            Busy: there is no room for it.
        """
        return self._inbox_bytes.hold(f"{kind}/{key}", size)

    async def ask(self, kind: str, key: str | int, message: object, *, timeout_s: float | None = None) -> Any:
        """Send `Execute`, `Query` or `CatchUp` and wait for the answer.

        The message is in the entity's inbox before this first suspends. So calls made in order arrive in
        order, even if the entity ends and is woken in between.

        Raises:
            Busy: nothing was done. Degraded: the entity keeps failing; nothing was done.
            AskTimeout: no answer in time; the outcome is unknown.
            Exception: what the entity raised, from the event store or from the decider.
        """
        ref = self.entity(kind, key)
        asked = Asked(message, acting_user()) if isinstance(message, Query | CatchUp) else None
        try:
            future = ref.ask(asked or message, block=False)
        except InboxFull as error:
            raise Busy(f"{kind}/{key} has too much to do") from error
        limit_s = self._limits.ask_timeout_s if timeout_s is None else timeout_s
        deadline = Deadline(self._ambient, limit_s)
        try:
            async with deadline:
                return await future
        except ActorDeadError as error:
            raise ended(kind, key, ref) from error
        except TimeoutError as error:
            if deadline.expired():
                raise AskTimeout(f"{kind}/{key}", limit_s) from error
            raise
        finally:
            if asked is not None:
                asked.gone = True
            # A cancelled task keeps its exception, whose traceback keeps this frame. The deadline keeps the
            # task: without this, they would form a reference cycle that keeps the reply alive.
            del deadline, future

    async def load(self, entities: Iterable[tuple[str, str]]) -> None:
        """Load those that are not in memory and have short streams, many with one read of the log.

        The others load themselves, as any does that is asked. Raises as `entity`.
        """
        for some in batched(self._short(entities), _LOADED_TOGETHER):
            found = await self._log.read_pages([page for _, page in some])
            for (ref, _), events in zip(some, found, strict=True):
                load(self._runtime, ref.actor_inbox, events)

    def _short(self, entities: Iterable[tuple[str, str]]) -> Iterator[tuple[LoopRef[Entity], Page]]:
        for kind, key in entities:
            if kind not in self._kinds:  # another node's newer code has it
                continue
            known = self._kinds[kind]
            events_max = known.policy.leaving
            stream = f"{known.stream_prefix}/{key}"
            head = self._log.head(stream)
            if head.first <= 1 and head.seq < events_max and f"{kind}/{key}" not in self._residents:
                yield self.entity(kind, key), Page(stream, 0, head.seq, _LOADED_BYTES)

    def together(self, kind: str, principal: str) -> Together:
        """Commands that entities decide in the caller's steps, written by one append: see `Together`.

        `kind`: any of those that will be asked, for the moment of the decisions.
        """
        return Together(self._runtime, self._log, self._kinds[kind].context(), principal)

    async def tell(self, kind: str, key: str | int, message: object) -> None:
        """Send a message without an answer, in order with `ask`. If the inbox is full, wait for room.

        If the store refuses the append, the entity logs that.

        Raises:
            Busy, Degraded: it was not sent, or the entity ended before it handled the message.
        """
        ref = self.entity(kind, key)
        try:
            await ref.tell_async(Told(message))
        except ActorDeadError as error:
            raise ended(kind, key, ref) from error

    async def close(self, timeout_s: float = 10.0) -> None:
        """Accept no more messages, finish the accepted ones, end every entity. Idempotent.

        Entities that are not finished after `timeout_s` are left to `Runtime.stop`.
        """
        refs = self._end_all()
        busy = [ref for ref in refs if not ref.stop_if_idle()]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                for stopped in [ref.stop(block=False) for ref in busy]:
                    await stopped
                await self.keyframes.flush()
