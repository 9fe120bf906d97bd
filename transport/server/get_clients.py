"""The query `get_clients`: the connected clients, their positions and their lag. For admins."""

from collections.abc import Awaitable, Callable

import msgspec

from huahuo.actors.plugins.actions import Action, Registry
from huahuo.actors.plugins.calls import Call, Reply, json_reply
from huahuo.eventstore.ambient import rfc3339
from huahuo.transport.server.hub import ClientFact, Hub

ACTION = "get_clients"


class ClientsParams(msgspec.Struct, frozen=True):
    """A query without fields."""


def register(registry: Registry, hub: Hub, *, look: Callable[[], Awaitable[object]] | None = None) -> None:
    """Offer the query. `look` is called first: it asks other processes where their clients stand."""

    async def answer(_call: Call[ClientsParams]) -> Reply:
        if look is not None:
            await look()
        return json_reply({"type": "clients", "data": [_row(fact) for fact in hub.clients()]})

    registry.command(Action(ACTION, ClientsParams, answer, query=True, admin=True))


def _row(fact: ClientFact) -> dict[str, object]:
    return {
        "user": fact.user,
        "username": fact.username,
        "client": fact.client,
        "connected_at": rfc3339(fact.connected_at_ms),
        "expires_at": rfc3339(fact.expires_at_ms),
        "streams": fact.streams,
    }
