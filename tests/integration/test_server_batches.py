"""Messages that come together are handled together, and their answers leave together."""

import msgspec
import pytest
from websockets.frames import TEXT, Frame

from huahuo.actors.plugins.calls import Principal
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.transport.load import fair_queueing
from huahuo.transport.wire import connection_ref
from tests.support.drivers.rawclient import RawClient, raw
from tests.support.worlds.wire import until, world

V1 = "huahuo.v1"
ADMIN = Principal(1, "root", is_admin=True)
COUNT = 40


class Ticking(FakeAmbient):
    """A clock that goes on by a millisecond whenever it is read."""

    def monotonic_s(self) -> float:
        """See `Ambient`."""
        self.advance(0.001)
        return super().monotonic_s()


def publishes(first: int, count: int) -> bytes:
    """`count` commands, with ids."""
    texts = [
        {"action": "publish", "id": f"p{number}", "stream": "user/7", "type": "tick", "n": number}
        for number in range(first, first + count)
    ]
    return b"".join(Frame(TEXT, msgspec.json.encode(text)).serialize(mask=True) for text in texts)


async def answers(client: RawClient, count: int) -> list[tuple[str, int]]:
    """(id, seq) of the next answers."""
    found: list[tuple[str, int]] = []
    while len(found) < count:
        said = await client.next()
        if said["type"] == "success":
            found.append((said["id"], said["at"]["seq"]))
    return found


async def test_the_answers_of_one_commit_leave_in_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    async with world() as w, raw(w.url, V1) as client:
        await client.authenticate(w.token(ADMIN))
        (ws,) = w.delivering.sockets
        written: list[int] = []
        write = ws.write

        def noted(frame: bytes) -> None:
            written.append(w.disk.syncs)
            write(frame)

        monkeypatch.setattr(ws, "write", noted)
        client.ws.transport.write(publishes(0, COUNT))
        assert await answers(client, COUNT) == [(f"p{n}", n + 1) for n in range(COUNT)]
        assert len(written) == len(set(written)) < COUNT


async def test_a_flood_of_messages_is_handled_in_turns_and_in_order() -> None:
    async with world(ambient=Ticking(7)) as w, raw(w.url, V1) as client:
        await client.authenticate(w.token(ADMIN))
        (ws,) = w.delivering.sockets
        client.ws.transport.write(publishes(0, COUNT))
        await until(lambda: ws.rest_bytes)
        assert await answers(client, COUNT) == [(f"p{n}", n + 1) for n in range(COUNT)]
        assert not ws.rest_bytes


async def test_messages_of_a_user_without_room_wait_in_order_while_anothers_are_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fair_queueing, "TURN_S", 0.0)
    monkeypatch.setattr(connection_ref, "_AT_ONCE_S", 0.0)
    async with world(ambient=Ticking(7)) as w, raw(w.url, V1) as full, raw(w.url, V1) as free:
        await full.authenticate(w.token(ADMIN))
        await free.authenticate(w.token(Principal(2, "other", is_admin=True)))
        turns = w.delivering.turns.rounds
        turns.room.append(lambda user: user != ADMIN.name or w.log.head("user/7").seq >= 8)
        full.ws.transport.write(publishes(0, 8))
        await until(lambda: turns.waiting)
        free.ws.transport.write(publishes(8, 8))
        others = await answers(free, 8)
        assert [name for name, _ in others] == [f"p{n}" for n in range(8, 16)]
        assert [name for name, _ in await answers(full, 8)] == [f"p{n}" for n in range(8)]
        assert not turns.waiting
