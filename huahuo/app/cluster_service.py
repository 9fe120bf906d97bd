"""What this node and the others ask of each other, and what administrators ask of all nodes, put together.

Over all nodes hold: takeover, connections and rates of a user, and places that are lent. Administrators
list nodes, forget one that will not come back, trim the ordered log, drain a node, and finalize the
format.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec
import structlog

from huahuo.actors.plugins.actions import Action, Registry
from huahuo.actors.plugins.calls import Call, Refusal, Reply, UserId, error_reply, json_reply
from huahuo.app.process import Parts
from huahuo.cluster.coordination import Duty, NotFinal, finalize_format
from huahuo.cluster.members import Member
from huahuo.cluster.node_requests import NodeError, NodeSilent, Peers
from huahuo.cluster.shared_facts import Telling
from huahuo.cluster.trimming import NotTrimmed, Trimmer
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.sequencer.port import SequencerError
from huahuo.transport.http.site import Site
from huahuo.transport.load.metrics import Metrics
from huahuo.transport.protocol.codes import CloseCode, ErrorCode
from huahuo.transport.server.hub import ClientRow, Clients, Hub, OfNodes
from huahuo.transport.wire.ports import LiveConnection
from huahuo.transport.words import en, zh

CLIENTS, FACTS = "clients", "facts"
ANSWER_S = 2.0
"""How long the nodes have to answer. The reply names those that did not."""


class Nothing(msgspec.Struct, frozen=True):
    """A request without fields."""


class AmongNodes:
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
        self.share = telling.share
        parts.add("news of clients", telling.stop)
        peers.on(CLIENTS, Nothing, self._tell_clients)
        peers.on(FACTS, Nothing, self._tell_facts)
        clients.others = self._clients_elsewhere

    async def members(self) -> tuple[dict[str, Member], list[str]]:
        """The nodes as they say of themselves now, and those that did not answer."""
        said = await self._peers.ask_all(FACTS, Nothing(), Member, timeout_s=ANSWER_S)
        return {**said.answers, self._duty.node: self._duty.facts()}, sorted(said.silent)

    async def others_that_take_clients(self) -> list[str]:
        """The URLs of the other nodes that say now that they take clients."""
        now, _ = await self.members()
        others = (one for node, one in now.items() if node != self._duty.node)
        return sorted(one.url for one in others if one.takes_clients and one.url)

    async def _tell_facts(self, _node: str, _asked: Nothing) -> object:
        return self._duty.facts()

    async def _tell_clients(self, _node: str, _asked: Nothing) -> object:
        return await self._clients.here(self._peers.node)

    async def _clients_elsewhere(self) -> OfNodes:
        said = await self._peers.ask_all(CLIENTS, Nothing(), list[ClientRow], timeout_s=ANSWER_S)
        rows = [row for _, theirs in sorted(said.answers.items()) for row in theirs]
        return OfNodes(self._peers.node, rows, sorted(said.silent))


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


def register_node_actions(registry: Registry, duty: Duty | None, ask: AskMembers | None) -> None:
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


DRAIN = "drain"
AGAIN_S = 2.0
"""How often a drained node sends away the clients that have signed in since the last time."""
_log = structlog.get_logger(__name__)


class TrimLog(msgspec.Struct, frozen=True):
    """Trim the ordered log. `alone`: also if no other disk holds what is trimmed."""

    alone: bool = False


class DrainNode(msgspec.Struct, frozen=True):
    """Send a node's clients elsewhere and let it rest; `undo`: take it back."""

    node: str
    undo: bool = False


class Finalize(msgspec.Struct, frozen=True):
    """Write the newest format that all nodes know."""


class Draining(msgspec.Struct, frozen=True):
    """As one node tells another."""

    undo: bool = False


class Drained(msgspec.Struct, frozen=True):
    """How many clients were sent away."""

    clients: int


class Drain:
    """A node that is drained: it takes no work, is not ready, and its clients are sent elsewhere."""

    def __init__(
        self,
        duty: Duty,
        hub: Hub,
        ready: Callable[[bool], None],
        where: Callable[[], Awaitable[Sequence[str]]],
    ) -> None:
        """`ready`: says in `/readyz` whether this node takes clients.

        `where`: asks which other nodes take clients now; their URLs.
        """
        self._duty = duty
        self._hub = hub
        self._ready = ready
        self._where = where
        self._others: Sequence[str] = ()
        self._named = 0
        self._task: asyncio.Task[None] | None = None

    async def set(self, *, undo: bool, asked_by: tuple[UserId, str | None] | None = None) -> Drained:
        """Drain it, or take it back.

        `asked_by`: the administrator and the client who ask over a connection to this node. It stays open,
        since it waits for the reply. Other connections of this user are sent away, and may come back; all
        stay where the client is not known (see `Hub.others`).
        """
        self._ready(undo)
        self._hub.turned_away = None if undo else self._why
        if undo:
            self.stop()
            self._duty.fit()
            return Drained(0)
        leaving = self._hub.others(asked_by)
        self._others = await self._where()
        if self._hub.turned_away is None:
            return Drained(0)  # it was taken back meanwhile
        if self._task is None:
            _log.info("node_drained", clients=len(leaving))
            self._task = asyncio.create_task(self._send_away(leaving), name="drain")
        await self._duty.unfit()
        return Drained(len(leaving))

    def stop(self) -> None:
        """Stop turning clients away."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _send_away(self, leaving: Sequence[LiveConnection]) -> None:
        while True:
            for connection in leaving:
                connection.close(CloseCode.DRAINING, self._why())
            await asyncio.sleep(AGAIN_S)
            self._others = await self._where()
            leaving = self._hub.guests

    def _why(self) -> str:
        """The reason in `goaway`. It names the nodes in turns, so that not all clients go to one."""
        if not self._others:
            return en.DRAINED
        self._named += 1
        return en.DRAINED_TO.format(self._others[self._named % len(self._others)])


def _asking(call: Call[DrainNode]) -> tuple[UserId, str | None]:
    return call.principal.user_id, None if call.key is None else call.key.client  # no key: it has no id


def register_cluster_actions(
    registry: Registry,
    duty: Duty,
    peers: Peers,
    trimmer: Trimmer,
    drain: Drain,
    finalize_version: Callable[[str], Awaitable[None]],
) -> None:
    """Offer the actions to administrators, and the drain to other nodes."""

    async def trim(call: Call[TrimLog]) -> Reply:
        try:
            mark = await trimmer.now(alone=call.params.alone)
        except NotTrimmed as why:
            return error_reply(Refusal("conflict", zh.NOT_NOW, details=str(why)))
        except (EventStoreError, SequencerError) as error:
            return error_reply(Refusal(ErrorCode.UNAVAILABLE, zh.NOT_NOW, details=str(error)))
        return json_reply({"type": "trimmed", "before": mark.offset})

    async def drain_node(call: Call[DrainNode]) -> Reply:
        node, undo = call.params.node, call.params.undo
        await duty.look()
        if node not in duty.members:
            return no_such_node(duty)
        try:
            if node == duty.node:
                drained = await drain.set(undo=undo, asked_by=_asking(call))
            else:
                drained = await peers.ask(node, DRAIN, Draining(undo), Drained)
        except NodeSilent as error:
            gone = f"{error}; if it will not come back: `huahuo cluster remove {node}`"
            return error_reply(Refusal("conflict", zh.NOT_NOW, details=gone))
        except NodeError as error:
            return error_reply(Refusal("conflict", zh.NOT_NOW, details=str(error)))
        return json_reply({"type": "drained", "clients": drained.clients})

    async def final(call: Call[Finalize]) -> Reply:
        try:
            await duty.look()
            version = await finalize_format(duty)
            await finalize_version(call.principal.name)
        except (NotFinal, EventStoreError) as why:
            return error_reply(Refusal("conflict", zh.NOT_NOW, details=str(why)))
        return json_reply({"type": "finalized", "format": version})

    async def told(_node: str, asked: Draining) -> Drained:
        return await drain.set(undo=asked.undo)

    peers.on(DRAIN, Draining, told)
    registry.command(Action("trim_log", TrimLog, trim, admin=True, frees=True))
    registry.command(Action("drain_node", DrainNode, drain_node, admin=True, frees=True))
    registry.command(Action("finalize_cluster", Finalize, final, admin=True, frees=True))


def say_what_is_undone(duty: Duty, metrics: Metrics, pages: Site) -> None:
    """Tell in `/readyz` and `/metrics` if no node does the work."""
    told = pages.told
    pages.told = lambda: "; ".join(filter(None, (duty.undone, told()))) or None
    metrics.gauge("work_undone", "1 while no node does the work.", lambda: bool(duty.undone))
