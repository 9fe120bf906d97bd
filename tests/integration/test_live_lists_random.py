"""Random changes, cuts, restarts, other limits and lost acks: each list equals its table at its commit."""

import random
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from huahuo import Huahuo
from tests.support.drivers.rawclient import RawClient, connected
from tests.support.proofs import WHOLE
from tests.support.worlds.lots import application

STEPS = 150
PARTS = ("cars", "vans")


class History:
    """The rows of each part after each commit, as they should be."""

    def __init__(self) -> None:
        self.now: dict[tuple[str, str], int] = {}
        self.after: list[tuple[int, dict[tuple[str, str], int]]] = [(0, {})]

    def changed(self, position: int) -> None:
        self.after.append((position, dict(self.now)))

    def at(self, position: int) -> dict[tuple[str, str], int]:
        return next(rows for at, rows in reversed(self.after) if at <= position)


class Reader:
    """A client with one list, which it checks at each change."""

    def __init__(self, name: str, parts: tuple[str, ...], *, descending: bool) -> None:
        self.name = name
        self.parts = parts
        self.descending = descending
        self.limit = 3
        self.rows: list[Any] = []
        self.place: dict[str, Any] | None = None
        self.view = 0
        self.view_limit = 0
        self.checked = 0

    @property
    def asked(self) -> dict[str, Any]:
        if self.name == "newest":
            return {"list": "newest"}
        return {"list": "lots", "fields": {"category": "+".join(self.parts)}}

    def apply(self, message: dict[str, Any]) -> None:
        def place(row: Any) -> Any:
            return row if isinstance(row, str) else tuple(row)

        several = len(self.parts) > 1
        put = [((row[0], row[2]) if several else row[0], row[1]["price"]) for row in message["put"]]
        gone = {*map(place, message["drop"]), *(key for key, _ in put)}
        kept = [] if message.get("reset") else [row for row in self.rows if row[0] not in gone]
        self.rows = sorted([*kept, *put], reverse=self.descending)[: self.view_limit]
        assert self.place is not None
        self.place["position"] = message["position"]
        self.place.pop("bound", None)
        if "bound" in message:
            self.place["bound"] = message["bound"]

    def check(self, history: History) -> None:
        assert self.place is not None
        table = history.at(self.place["position"])
        several = len(self.parts) > 1
        wanted = sorted(
            (
                ((key, part) if several else key, price)
                for (part, key), price in table.items()
                if part in self.parts
            ),
            reverse=self.descending,
        )[: self.view_limit]
        assert self.rows == wanted, (self.name, self.parts, self.place)
        self.checked += 1


class Play:
    """One run."""

    def __init__(self, app: Huahuo, seed: int) -> None:
        self.app = app
        self.chance = random.Random(seed)
        self.history = History()
        self.readers = [
            Reader("lots", ("cars",), descending=False),
            Reader("lots", PARTS, descending=False),
            Reader("newest", ("cars",), descending=True),
        ]
        self.stack = AsyncExitStack()
        self.sockets: dict[Reader, RawClient] = {}
        self.count = 0

    async def connect(self) -> RawClient:
        ws = await self.stack.enter_async_context(connected(self.app.url))
        await ws.authenticate(self.app.token(42, "ann"))
        return ws

    async def write(self) -> None:
        self.count += 1
        lot, key = self.chance.randrange(12), ""
        key = f"{lot:04d}"
        part = next((part for part, known in self.history.now if known == key), "")
        if part and self.chance.random() < 0.4:
            action: dict[str, Any] = {"action": "close_lot", "lot_id": key}
            del self.history.now[part, key]
        else:
            part = part or self.chance.choice(PARTS)
            action = {"action": "offer_lot", "lot_id": key, "category": part, "price": self.count}
            self.history.now[part, key] = self.count
        await self.writer.say(id=f"w{self.count}", **action)
        reply = await self.writer.until("success", id=f"w{self.count}")
        self.history.changed(reply["at"]["position"])

    async def follow(self, reader: Reader) -> None:
        reader.limit = self.chance.choice((1, 2, 3, 5, 20))
        ws = self.sockets.get(reader)
        if ws is None:
            ws = self.sockets[reader] = await self.connect()
            reader.view = 0
        more = reader.asked
        if reader.view and self.chance.random() < 0.7:
            more = {"view": reader.view}
        elif reader.place is not None:
            more |= {"from": reader.place}
            reader.limit = (
                reader.view_limit if reader.view else reader.limit
            )  # else it had two views of one list
        await ws.say(action="follow", id="f", limit=reader.limit, **more)
        while True:
            message = await ws.next()
            if message["type"] == "following" and message.get("id") == "f":
                break
            await self.heard(reader, message)
        reader.view, reader.view_limit = message["view"], message["limit"]
        if message["outcome"] == "resumed" and reader.place is not None:
            reader.place |= {"log": message["log"], "of": message["of"]}
        else:
            reader.place = {name: message[name] for name in ("log", "of", "position")}
        await self.heard(reader, await ws.until("rows", view=reader.view))

    async def heard(self, reader: Reader, message: dict[str, Any]) -> None:
        if message["type"] != "rows" or message["view"] != reader.view:
            return
        reader.apply(message)
        reader.check(self.history)
        if self.chance.random() < 0.8:
            ack = {str(reader.view): message["position"]}
            await self.sockets[reader].say(action="ack", views=ack)

    async def hear(self, reader: Reader) -> None:
        ws = self.sockets[reader]
        for message in await ws.quiet():
            await self.heard(reader, message)

    async def restart(self) -> None:
        await self.stack.aclose()
        self.sockets.clear()
        await self.app.stop()
        await self.app.start()
        self.writer = await self.connect()

    async def run(self) -> None:
        self.writer = await self.connect()
        for _ in range(STEPS):
            reader = self.chance.choice(self.readers)
            step = self.chance.random()
            if step < 0.5:
                await self.write()
            elif step < 0.7 and reader in self.sockets:
                await self.hear(reader)
            elif step < 0.9:
                await self.follow(reader)
            elif step < 0.98:
                gone = self.sockets.pop(reader, None)
                if gone is not None:
                    gone.ws.transport.abort()
            else:
                await self.restart()
        await self.stack.aclose()


@pytest.mark.parametrize("seed", range(40 if WHOLE else 4))
async def test_a_list_equals_its_table_at_its_commit_whatever_happens(tmp_path: Path, seed: int) -> None:
    async with application(tmp_path / "data", set()) as app:
        play = Play(app, seed)
        await play.run()
        assert all(reader.checked > 5 for reader in play.readers)
