"""What administrators ask of a cluster: trim the ordered log, drain a node, finalize the format."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import structlog

from huahuo.actors.plugins.actions import Action, Registry
from huahuo.actors.plugins.calls import Call, Refusal, Reply, error_reply, json_reply
from huahuo.actors.plugins.principal import UserId
from huahuo.app.node_actions import no_such_node
from huahuo.cluster.duty import Duty
from huahuo.cluster.errors import NodeError, NodeSilent
from huahuo.cluster.formats import NotFinal, finalize
from huahuo.cluster.peers import Peers
from huahuo.cluster.trimming import NotTrimmed, Trimmer
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.sequencer.port import SequencerError
from huahuo.transport.protocol.codes import CloseCode, ErrorCode
from huahuo.transport.server.hub import Hub
from huahuo.transport.server.ports import LiveConnection
from huahuo.transport.words import en, zh

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


def register(
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
            version = await finalize(duty)
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
