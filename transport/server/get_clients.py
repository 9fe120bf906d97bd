"""The query `get_clients`: the connected clients, their positions and their lag. For admins."""

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from huahuo.actors.plugins.actions import Action, Registry
from huahuo.actors.plugins.calls import Call, Reply, json_reply
from huahuo.eventstore.ambient import rfc3339
from huahuo.transport.server.hub import ClientFact, Hub, StreamFact

ACTION = "get_clients"


class ClientsParams(msgspec.Struct, frozen=True):
    """A query without fields."""


class ClientRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One client. `node`: where it is connected, if there are several nodes."""

    user: str
    username: str
    client: str
    connected_at: str
    expires_at: str
    streams: tuple[StreamFact, ...]
    node: str = ""


class OfNodes(msgspec.Struct, frozen=True):
    """The clients of other nodes, and the nodes that did not answer."""

    node: str
    rows: Sequence[ClientRow]
    silent: Sequence[str]


type Look = Callable[[], Awaitable[object]]


class Clients:
    """See the module. `look` is called first: it asks other processes where their clients stand."""

    def __init__(self, registry: Registry, hub: Hub, look: Look | None = None) -> None:
        """Offers the query at once."""
        self.others: Callable[[], Awaitable[OfNodes]] | None = None
        """Asks the other nodes. None: there are none."""
        self._hub = hub
        self._look = look
        registry.command(Action(ACTION, ClientsParams, self._answer, query=True, admin=True))

    async def here(self, node: str = "") -> list[ClientRow]:
        """The clients of this node."""
        if self._look is not None:
            await self._look()
        return [_row(fact, node) for fact in self._hub.clients()]

    async def _answer(self, _call: Call[ClientsParams]) -> Reply:
        if self.others is None:
            return json_reply({"type": "clients", "data": await self.here()})
        others = await self.others()
        rows = [*await self.here(others.node), *others.rows]
        return json_reply({"type": "clients", "data": rows, "silent": others.silent})


def _row(fact: ClientFact, node: str) -> ClientRow:
    return ClientRow(
        user=fact.user,
        username=fact.username,
        client=fact.client,
        connected_at=rfc3339(fact.connected_at_ms),
        expires_at=rfc3339(fact.expires_at_ms),
        streams=fact.streams,
        node=node,
    )
