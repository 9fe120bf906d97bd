"""The work of a service besides its clients: plug-ins and webhooks, begun and stopped as one.

On a node it begins once the node has joined. What one process does for all begins where the duty says so.
"""

import asyncio
from collections.abc import Mapping

from huahuo.actors.entities.sharing import Share
from huahuo.actors.plugins.plugin import Brought
from huahuo.app import nodes
from huahuo.app.stopping import Parts
from huahuo.cluster.duty import Duty
from huahuo.cluster.trimming import Trimmer
from huahuo.errors import ConfigError, HuahuoError
from huahuo.eventstore.cancelling import cancel_all
from huahuo.eventstore.errors import Unavailable
from huahuo.eventstore.port import Log
from huahuo.eventstore.replicated.writer import ReplicaWriter
from huahuo.webhooks.webhooks import Webhooks


class Work:
    """See the module. `duty` and `trimmer` are None if the service is alone; they are set before `begin`."""

    def __init__(self, brought: Mapping[str, Brought], webhooks: Webhooks) -> None:
        self._brought = brought
        self._webhooks = webhooks
        self.duty: Duty | None = None
        self.trimmer: Trimmer | None = None

    async def begin(self, log: Log, parts: Parts) -> None:
        """Go on with what an earlier process left: on a node that has not joined yet, once it has."""
        own = Parts()
        parts.add_timed("work", own.stop)
        replica = nodes.replica_of(log)
        if replica is None or await nodes.joins_soon(replica):
            await self._begin(own)
            return
        joining = asyncio.create_task(self._begin_later(replica, own), name="joining")
        parts.add("joining", lambda: cancel_all([joining], 1.0))

    async def take_up(self) -> None:
        """Begin what one process does for all."""
        try:
            for brought in self._brought.values():
                await brought.work()
        except ValueError as error:
            raise ConfigError(str(error)) from error
        await self._webhooks.work()

    async def divide(self, share: Share) -> None:
        """This node's part of the work that nodes divide is another one now."""
        try:
            for brought in self._brought.values():
                await brought.divide(share)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        await self._webhooks.divide(share)

    async def known(self) -> None:
        """Whether this node's code knows all that is open now. Raises ConfigError: it does not."""
        try:
            for brought in self._brought.values():
                await brought.known()
        except ValueError as error:
            raise ConfigError(str(error)) from error

    @property
    def version(self) -> str:
        """A fingerprint of what all nodes must share before `finalize`."""
        return "".join(brought.version for _, brought in sorted(self._brought.items()))

    async def finalize(self, by: str) -> None:
        """This node's version is that of all nodes from now on. `by`: the administrator who says so."""
        for brought in self._brought.values():
            await brought.finalize(by)

    async def rest(self) -> None:
        """Another node does that now."""
        for brought in reversed(list(self._brought.values())):
            await brought.rest()

    async def _begin_later(self, replica: ReplicaWriter, parts: Parts) -> None:
        try:
            await replica.joined()
            await self._begin(parts)
        except Unavailable:
            return  # `trouble` of the replica says why, and so does /readyz
        except HuahuoError as error:
            replica.halt(str(error))

    async def _begin(self, parts: Parts) -> None:
        for name, brought in self._brought.items():
            await _begin_plugin(name, brought, parts)
        parts.add("webhooks", self._webhooks.close)
        parts.add_timed("deliveries of webhooks", self._webhooks.drain)
        await self._webhooks.start()
        if self.duty is None:
            await self.take_up()
            return
        parts.add("node", self.duty.stop)
        await self.duty.start()
        if self.trimmer is not None:
            parts.add("trimming", self.trimmer.stop)
            self.trimmer.start()


async def _begin_plugin(name: str, brought: Brought, parts: Parts) -> None:
    parts.add(f"plug-in {name}", brought.close)
    parts.add_timed(f"work of plug-in {name}", brought.drain)
    try:
        await brought.start()
    except ValueError as error:
        raise ConfigError(str(error)) from error
