"""Presence over nodes: who is on one node is seen on the others, until it leaves or its node is gone."""

from collections.abc import Sequence
from itertools import count

import msgspec
import pytest

from huahuo.actors.plugins.calls import UserId
from huahuo.cluster.shared_presence import SharedPresence
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.transport.server.presence import Presence
from tests.support.worlds.neighbours import neighbours

ROOM = "room/7"


class Member:
    """A connection that is in a room, and whom it sees."""

    def __init__(self) -> None:
        self.position = 0
        self.counts = False
        self.seen: dict[str, object] = {}

    @property
    def user_id(self) -> UserId:
        return 1

    def may_take(self) -> bool:
        return True

    def wait(self) -> None: ...

    def judge(self) -> None: ...

    def take(self, position: int, frames: Sequence[bytes]) -> None:
        self.position = position
        for frame in frames:
            rows = msgspec.json.decode(frame)
            kept = {} if rows.get("reset") else self.seen
            self.seen = {key: row for key, row in kept.items() if key not in rows["drop"]} | dict(rows["put"])


@pytest.mark.parametrize("silent", ["", "c"])
async def test_who_is_on_one_node_is_seen_on_the_others_until_it_leaves(silent: str) -> None:
    clock, numbers = FakeAmbient(1), count(1)
    async with neighbours(dict.fromkeys("abc", clock), silent) as found:
        rooms = [Presence(lambda text: text, lambda: next(numbers)) for _ in found]
        nodes = [SharedPresence(room, one.peers) for room, one in zip(rooms, found, strict=True)]
        ann, bob = Member(), Member()
        at_a = rooms[0].enter(ROOM, ann, "ann", b"1")
        at_b = rooms[1].enter(ROOM, bob, "bob", b"2")
        for node in nodes:
            await node.look()
        for room, at in ((rooms[0], at_a), (rooms[1], at_b)):
            room.tell(at)
        assert ann.seen == bob.seen == {"ann": 1, "bob": 2}
        rooms[1].leave(at_b, bob, "bob")
        await nodes[0].look()
        rooms[0].tell(at_a)
        assert ann.seen == {"ann": 1}
        for room in rooms:
            room.close()
