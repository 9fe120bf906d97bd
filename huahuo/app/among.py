"""What holds over all nodes: takeover, connections and rates of a user, and what administrators ask."""

from collections.abc import Mapping

import msgspec

from huahuo.app.stopping import Parts
from huahuo.cluster.duty import Duty
from huahuo.cluster.members import Member
from huahuo.cluster.peers import Peers
from huahuo.cluster.rates import Rate, Rates
from huahuo.cluster.telling import Telling
from huahuo.eventstore.ambient import Ambient
from huahuo.transport.server.get_clients import ClientRow, Clients, OfNodes
from huahuo.transport.server.hub import Hub

CLIENTS, FACTS = "clients", "facts"
ANSWER_S = 2.0
"""How long the nodes have to answer. The reply names those that did not."""


class Nothing(msgspec.Struct, frozen=True):
    """A request without fields."""


class Among:
    """This node among the others. It tells them which clients are here until `parts` stops it."""

    def __init__(
        self, peers: Peers, duty: Duty, hub: Hub, clients: Clients, ambient: Ambient, parts: Parts
    ) -> None:
        self._peers = peers
        self._duty = duty
        self._clients = clients
        self._ambient = ambient
        hub.elsewhere = telling = Telling(peers, ambient, hub.supersede)
        telling.start()
        parts.add("news of clients", telling.stop)
        peers.on(CLIENTS, Nothing, self._tell_clients)
        peers.on(FACTS, Nothing, self._tell_facts)
        clients.others = self._clients_elsewhere

    def share(self, rates: Mapping[str, Rate], parts: Parts) -> None:
        """Let these rates hold over all nodes, until `parts` stops it."""
        shared = Rates(self._peers, self._ambient, rates)
        shared.start()
        parts.add("rates of all nodes", shared.stop)

    async def members(self) -> tuple[dict[str, Member], list[str]]:
        """The nodes as they say of themselves now, and those that did not answer."""
        said = await self._peers.ask_all(FACTS, Nothing(), Member, timeout_s=ANSWER_S)
        return {**said.answers, self._duty.node: self._duty.facts()}, sorted(said.silent)

    async def _tell_facts(self, _node: str, _asked: Nothing) -> object:
        return self._duty.facts()

    async def _tell_clients(self, _node: str, _asked: Nothing) -> object:
        return await self._clients.here(self._peers.node)

    async def _clients_elsewhere(self) -> OfNodes:
        said = await self._peers.ask_all(CLIENTS, Nothing(), list[ClientRow], timeout_s=ANSWER_S)
        rows = [row for _, theirs in sorted(said.answers.items()) for row in theirs]
        return OfNodes(self._peers.node, rows, sorted(said.silent))
