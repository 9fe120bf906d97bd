"""Tells the other nodes which clients are here, and hears of theirs: `presence` with tasks and requests.

One request to a node is under way at a time. What changes meanwhile goes with the next one, so a storm of
clients that come back costs a few requests and not one for each.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from huahuo.actors.plugins.principal import UserId
from huahuo.cluster.errors import NodeBegins, NodeError
from huahuo.cluster.peers import Peers
from huahuo.cluster.presence import Heard, Presence, Told
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.cancelling import cancel_all

REQUEST: Final = "presence"
PAUSE_S: Final = 0.02
"""Between two requests to a node."""
AGAIN_S: Final = 0.5
LOOK_S: Final = 0.5
"""How often to look which nodes live."""
_log = structlog.get_logger(__name__)


class Telling:
    """See the module. Implements `hub.Elsewhere`. `leave`: closes the connections of a client here."""

    def __init__(self, peers: Peers, ambient: Ambient, leave: Callable[[UserId, str], None]) -> None:
        self._peers = peers
        self._ambient = ambient
        self._leave = leave
        self.presence = Presence(peers.node, ambient.token(8), ambient.now_ms)
        self._changed: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._looking: asyncio.Task[None] | None = None
        peers.on(REQUEST, Told, self._heard)

    def start(self) -> None:
        """Tell from now on."""
        self._looking = asyncio.create_task(self._look(), name="nodes that live")

    async def stop(self) -> None:
        """Tell no more. Idempotent."""
        looking, self._looking = self._looking, None
        tasks = [*self._tasks.values(), *([] if looking is None else [looking])]
        self._tasks.clear()
        await cancel_all(tasks, 1.0)

    def joined(self, user: UserId, client: str) -> None:
        """See `hub.Elsewhere`."""
        self.presence.joined(user, client)
        self._wake()

    def parted(self, user: UserId, client: str) -> None:
        """See `hub.Elsewhere`."""
        self.presence.parted(user, client)
        self._wake()

    def count(self, user: UserId, client: str) -> int:
        """See `hub.Elsewhere`."""
        return self.presence.count(user, client)

    def _wake(self) -> None:
        for changed in self._changed.values():
            changed.set()

    async def _heard(self, node: str, told: Told) -> Heard:
        heard, leaving = self.presence.hear(node, told)
        if told.asks and node in self._changed:
            self._changed[node].set()
        for user, client in leaving:
            self._leave(user, client)
        return heard

    async def _look(self) -> None:
        while True:
            living = set(self._peers.living())
            for node in living - self._tasks.keys():
                self._changed[node] = asyncio.Event()
                self._tasks[node] = asyncio.create_task(self._tell(node), name=f"tell {node}")
            for node in self._tasks.keys() - living:
                self._tasks.pop(node).cancel()
                del self._changed[node]
                self.presence.forget(node)
            for node in set(self.presence.heard_of()) - living:  # it tells, and says nothing in the log
                self.presence.forget(node)
            await asyncio.sleep(LOOK_S)

    async def _tell(self, node: str) -> None:
        changed, silent = self._changed[node], False
        while True:
            changed.clear()
            if not self.presence.owes(node):
                await changed.wait()
                continue
            told = self.presence.next(node)
            try:
                heard = await self._peers.ask(node, REQUEST, told, Heard)
            except NodeError as error:
                self.presence.failed(node, told)
                if not silent and not isinstance(error, NodeBegins):
                    silent = True
                    _log.warning("node_not_told", node=node, reason=str(error))
                await asyncio.sleep(AGAIN_S)
            else:
                silent = False
                self.presence.answered(node, heard)
                await asyncio.sleep(PAUSE_S)
