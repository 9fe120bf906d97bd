"""Presence over nodes: while somebody is in a room here, other nodes are asked each second who is there.

A node that does not answer is taken as empty when it counts as gone.
"""

import asyncio
from typing import Final

import msgspec

from huahuo.cluster.node_requests import Peers
from huahuo.eventstore.deadline import cancel_all
from huahuo.transport.server.presence import Presence

REQUEST: Final = "presence"
ASK_S: Final = 1.0
_NODE: Final = "node "

type Rooms = dict[str, dict[str, bytes]]


class Asked(msgspec.Struct, frozen=True):
    """The rooms that the asking node has."""

    rooms: list[str]


class SharedPresence:
    """The presence of one node, together with that of the others."""

    def __init__(self, presence: Presence, peers: Peers) -> None:
        self._presence = presence
        self._peers = peers
        self._known: set[str] = set()
        self._asking: asyncio.Task[None] | None = None
        peers.on(REQUEST, Asked, self._answer)

    def start(self) -> None:
        """Ask from now on."""
        self._asking = asyncio.create_task(self._ask(), name="presence over nodes")

    async def stop(self) -> None:
        """Ask no more. Idempotent."""
        asking, self._asking = self._asking, None
        await cancel_all([] if asking is None else [asking], 1.0)

    async def _answer(self, _node: str, asked: Asked) -> Rooms:
        return {stream: self._here(stream) for stream in asked.rooms}

    def _here(self, stream: str) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for source, rows in self._presence.known(stream, but=_NODE).items():
            if not source.startswith(_NODE):
                found |= rows
        return found

    async def _ask(self) -> None:
        while True:
            await asyncio.sleep(ASK_S)
            await self.look()

    async def look(self) -> None:
        """Ask the other nodes once, if somebody is in a room here."""
        rooms = [stream for stream in tuple(self._presence.rooms) if self._here(stream)]
        if not rooms and not self._known:
            return
        said = await self._peers.ask_all(REQUEST, Asked(rooms), dict[str, dict[str, bytes]])
        for node, found in said.answers.items():
            self._presence.heard_all(_NODE + node, found)
        for node in self._known - said.answers.keys() - said.silent.keys():
            self._presence.gone(_NODE + node)
        self._known = {*said.answers, *(self._known & said.silent.keys())} if rooms else set()
