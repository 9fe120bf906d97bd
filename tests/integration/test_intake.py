"""One budget for what comes in, through the doors: never over, others are served, and all are answered."""

import asyncio

import msgspec

from huahuo.actors.plugins.calls import Principal
from huahuo.transport.load.intake import weight
from huahuo.transport.protocol.flow_control import TransportSettings
from tests.support.drivers.http import client
from tests.support.drivers.rawclient import raw
from tests.support.patience import WITHIN_S
from tests.support.worlds.wire import World, until, world

ADMIN, OTHER = Principal(1, "root", is_admin=True), Principal(2, "boss", is_admin=True)
BYTES_MAX = 16 << 20
SMALL = TransportSettings(intake_bytes_max=BYTES_MAX)
LONG = "A" * 200_000


def _peak(w: World) -> list[int]:
    """The highest sum so far, kept up to date."""
    intake, peak = w.server.intake, [0]
    add = intake.add

    def seen(user: str, size: int) -> None:
        add(user, size)
        peak[0] = max(peak[0], intake.used)

    intake.add = seen  # type: ignore[method-assign]
    return peak


def _event(text: str) -> dict[str, object]:
    return {"stream": "group/a", "type": "said", "fields": {"text": text}}


async def test_many_long_bodies_never_hold_more_than_the_budget_and_all_are_answered() -> None:
    async with world(SMALL) as w:
        peak, body = _peak(w), msgspec.json.encode(_event(LONG))
        head = f"POST /publish HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {w.token(ADMIN)}\r\n"
        begun = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:1000]
        sockets = [await asyncio.open_connection("127.0.0.1", w.port) for _ in range(8)]
        for _, down in sockets:
            down.write(begun)
        await until(lambda: w.server.intake.waiting == 7)
        async with client(f"http://127.0.0.1:{w.port}", w.token(OTHER)) as other:
            assert (await other.post("/publish", json=_event("hello"))).status_code == 200
        for _, down in sockets:
            down.write(body[1000:])
        async with asyncio.timeout(WITHIN_S):
            statuses = [await up.readline() for up, _ in sockets]
        assert statuses == [b"HTTP/1.1 200 OK\r\n"] * 8
        assert weight(len(body)) <= peak[0] <= BYTES_MAX
        for _, down in sockets:
            down.close()
        await until(lambda: not w.server.intake.used)


async def test_a_body_that_is_announced_waits_unread_and_is_free_when_its_client_leaves() -> None:
    async with world(SMALL) as w:
        head = f"POST /publish HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {w.token(ADMIN)}\r\n"
        begun = head.encode() + b"Content-Length: 900000\r\n\r\n{"
        downs = []
        for _ in range(4):
            _, down = await asyncio.open_connection("127.0.0.1", w.port)
            down.write(begun)
            downs.append(down)
        await until(lambda: w.server.intake.waiting == 3)
        assert w.server.intake.of("user/1") == weight(900_000)
        for down in downs:
            down.close()
        await until(lambda: not w.server.intake.used)
        assert w.server.intake.waiting == 0


async def test_long_messages_of_many_sockets_never_hold_more_than_the_budget() -> None:
    async with world(SMALL) as w:
        peak = _peak(w)

        async def publish() -> str:
            async with raw(w.url, "huahuo.v1") as c:
                await c.authenticate(w.token(ADMIN))
                said = {"action": "publish", "id": "1", "stream": "group/a", "type": "said", "text": LONG}
                await c.ws.send(msgspec.json.encode(said).decode())
                async with asyncio.timeout(WITHIN_S):
                    while (answer := await c.next())["type"] == "live":
                        pass
                return str(answer.get("code", answer["type"]))

        said = await asyncio.gather(*(publish() for _ in range(8)))
        assert set(said) == {"success"}
        # What is handed over counts at its socket and as its command for a moment.
        assert weight(200_000) <= peak[0] <= BYTES_MAX + weight(200_000)
        await until(lambda: not w.server.intake.used)
