"""The life of a service: it starts whole or not at all, and stops its parts in reverse order, once."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable

from huahuo.app import watching
from huahuo.app.config import Settings
from huahuo.app.stopping import AtStop, Parts
from huahuo.errors import HuahuoError, ways_on
from huahuo.eventstore.ambient import Ambient, SystemAmbient
from huahuo.eventstore.awake import AwakeAmbient
from huahuo.eventstore.errors import Corrupt
from huahuo.eventstore.sqlite.faults import no_room


class Life(ABC):
    """See the module. What `_start` puts into `_parts` is stopped."""

    def __init__(self, settings: Settings, ambient: Ambient) -> None:
        self.settings = settings
        self._ambient = ambient
        self._awake = AwakeAmbient(ambient)
        self._parts = Parts()
        self._at_stop = AtStop()
        self._stopping: asyncio.Task[None] | None = None

    @property
    def clock(self) -> Ambient:
        """The service's time, which stands still while the machine sleeps."""
        return self._awake

    def on_stop(self, stops: Callable[[], object]) -> Callable[[], None]:
        """See `AtStop.add`."""
        return self._at_stop.add(stops)

    @abstractmethod
    async def _start(self) -> None:
        """Start the parts, one after the other."""

    async def start(self) -> None:
        """Open the log, continue the work that an earlier process left, listen.

        Raises:
            HuahuoError: the directory is in use or damaged, a key does not fit, the port is taken.
        """
        try:
            await self._start()
        except BaseException as error:
            await self._parts.stop(self.settings.drain_timeout_s)
            if isinstance(error, Corrupt):
                raise HuahuoError(f"{error}; {ways_on(self.settings.data)}") from error
            if (full := no_room(error, self.settings.data)) is not None:
                raise HuahuoError(str(full)) from error
            raise
        if isinstance(self._ambient, SystemAmbient):  # a simulated clock has no thread besides its loop
            self._parts.add(
                "loop watch",
                watching.watch(asyncio.get_running_loop(), self._ambient.monotonic_s, self._awake),
            )

    async def stop(self, timeout_s: float | None = None) -> None:
        """Disconnect the clients, stop the plug-ins (they continue at the next start), close the log.

        All parts share one deadline: `timeout_s`, but at most the setting `drain_timeout_s`. A stuck part is
        cancelled, and left behind if even that does not end it.
        Idempotent: a second call, even after the first was cancelled, waits for the same stop.
        """
        if self._stopping is None:
            self._at_stop.begin()
            most_s = self.settings.drain_timeout_s
            within_s = most_s if timeout_s is None else min(timeout_s, most_s)
            self._stopping = asyncio.create_task(self._parts.stop(within_s), name="stop")
        await asyncio.shield(self._stopping)
