"""Nodes that ask each other over real sockets, without a log that they share."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from huahuo.cluster.members import Member
from huahuo.cluster.node_requests import Asker, NodesDoor, Peers
from huahuo.eventstore.ambient import Ambient
from tests.support.worlds.wire import World, world

SECRET, LOG = b"s" * 32, "log-1"


class Neighbour:
    """One of them. `world` is the service whose port the others ask."""

    def __init__(
        self, name: str, w: World, ambient: Ambient, members: dict[str, Member], silent_s: dict[str, float]
    ) -> None:
        self.name = name
        self.world = w
        self.ambient = ambient
        self.members = members
        """Of all of them, by name."""
        door = NodesDoor(secret=SECRET, node=name, log_id=LOG, ambient=ambient)
        w.api.serve_nodes(door)
        asker = Asker(secret=SECRET, node=name, log_id=LOG, ambient=ambient)
        self.peers = Peers(
            asker, door, members=lambda: members, silent_s=lambda node: silent_s.get(node, 0.0)
        )


@asynccontextmanager
async def neighbours(
    clocks: dict[str, Ambient], silent: str = "", silent_s: dict[str, float] | None = None
) -> AsyncIterator[list[Neighbour]]:
    """A node for each name, with its clock. The one named by `silent` lives, and can't be reached.

    `silent_s`: for how long the others have heard nothing of a node; 0 for those that it does not name.
    """
    heard = {} if silent_s is None else silent_s
    members: dict[str, Member] = {}
    made: list[Neighbour] = []
    async with AsyncExitStack() as stack:
        for name, ambient in clocks.items():
            w = await stack.enter_async_context(world())
            url = f"http://127.0.0.1:{1 if name == silent else w.port}"
            members[name] = Member(url=url, build="1", keys="k", beat=1, at_ms=0, applied=1)
            made.append(Neighbour(name, w, ambient, members, heard))
        yield made
