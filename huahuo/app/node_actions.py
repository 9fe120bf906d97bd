"""What administrators ask about the nodes: which there are, and to forget one that will not come back."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from huahuo.actors.plugins.actions import Action, Registry
from huahuo.actors.plugins.calls import Call, Refusal, Reply, error_reply, json_reply
from huahuo.cluster.duty import Duty
from huahuo.cluster.members import Member
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.words import zh

SILENT_S_MAX = 1e9
LIVES_S = 10.0
"""A node that said something within this time is not removed."""
type AskMembers = Callable[[], Awaitable[tuple[Mapping[str, Member], Sequence[str]]]]
"""The nodes as they say of themselves now, and those that did not answer."""


class RemoveNode(msgspec.Struct, frozen=True):
    """Forget a node that will not come back."""

    node: str


class NodesParams(msgspec.Struct, frozen=True):
    """A query without fields."""


def register(registry: Registry, duty: Duty | None, ask: AskMembers | None) -> None:
    """Offer `get_nodes` and `remove_node` to administrators. `ask`: asks the nodes how they are now."""

    async def answer(_call: Call[NodesParams]) -> Reply:
        if duty is None or ask is None:
            return json_reply({"type": "nodes", "data": []})
        await duty.look()
        now, silent = await ask()
        return json_reply({"type": "nodes", "data": _rows(duty, now), "silent": silent})

    async def remove(call: Call[RemoveNode]) -> Reply:
        node = call.params.node
        if duty is not None:
            await duty.look()
        if duty is None or node not in duty.members:
            return no_such_node(duty)
        lives = duty.silent_s(node) < LIVES_S and not duty.members[node].stopped
        if node == duty.node or lives:
            return error_reply(Refusal("conflict", zh.NODE_LIVES))
        await duty.remove(node)
        return json_reply({"type": "success"})

    registry.command(Action("get_nodes", NodesParams, answer, query=True, admin=True))
    registry.command(Action("remove_node", RemoveNode, remove, admin=True))


def no_such_node(duty: Duty | None) -> Reply:
    """The refusal of a name that no node has. It says which there are."""
    known = "this service is alone" if duty is None else f"the nodes are {', '.join(sorted(duty.members))}"
    return error_reply(Refusal(ErrorCode.NOT_FOUND, zh.NO_SUCH_NODE, details=known))


def _rows(duty: Duty, now: Mapping[str, Member]) -> list[dict[str, object]]:
    """A row for each node: as it says now, else as its last row in the log has it."""
    known = {**duty.members, **now}
    newest = max(member.applied for member in known.values())
    return [
        {
            "node": node,
            "url": member.url,
            "build": member.build,
            "applied": member.applied,
            "behind": newest - member.applied,
            "connections": member.connections,
            "load": round(member.load, 2),
            "silent_s": round(min(duty.silent_s(node), SILENT_S_MAX), 1),
            "answers": node in now,
            "stopped": member.stopped,
            "takes_clients": member.takes_clients,
            "works": node == duty.holder,
            "shares": node in duty.sharing,
            "here": node == duty.node,
        }
        for node, member in sorted(known.items())
    ]
