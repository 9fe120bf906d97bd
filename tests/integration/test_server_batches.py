"""Messages that come together are handled together, and their answers leave together."""

import msgspec
import pytest
from websockets.frames import TEXT, Frame

from huahuo.actors.plugins.principal import Principal
from huahuo.eventstore.ambient import FakeAmbient
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
