"""What an idle service frees: frames and pages that it can make or read again."""

import _sqlite3
import asyncio
import ctypes
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from huahuo import Huahuo
from huahuo.app.wiring import letting_go
from tests.support.worlds.storing import Stored, stored

_memory_used = ctypes.CDLL(_sqlite3.__file__).sqlite3_memory_used
_memory_used.restype = ctypes.c_int64


def sqlite_bytes() -> int:
    """What SQLite holds in this process, most of it pages of databases."""
    return int(_memory_used())


async def let_go(s: Stored) -> None:
    """Let go, and wait until the pages are freed. Raises what that raised."""
    letting_go(s.app)()
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name() == "forget pages"))


async def test_an_idle_service_lets_frames_go_and_goes_on(tmp_path: Path) -> None:
    async with stored(tmp_path / "data") as s, s.client(1, admin=True) as one, s.client(2, admin=True) as two:
        for client in (one, two):
            await client.events("group/ops").ready()
        await one.send("publish", stream="group/ops", type="said", text="a" * 1000)
        async for event in two.events("group/ops", after=0):
            assert event.data["text"] == "a" * 1000
            break
        assert s.app.server.frames.bytes > 0
        await let_go(s)
        assert s.app.server.frames.bytes == 0
        await asyncio.gather(*(one.send("publish", stream="group/ops", type="said", n=n) for n in range(20)))
        assert s.app.log.head("group/ops").seq == 21


async def test_an_idle_service_keeps_few_recent_events_and_goes_on(tmp_path: Path) -> None:
    texts = [f"{n} " * 20_000 for n in range(100, 200)]
    async with stored(tmp_path / "data") as s, s.client(1, admin=True) as one:
        for text in texts:
            await one.send("publish", stream="group/ops", type="said", text=text)
        tail = s.app.feed.tail
        assert tail.weight > sum(map(len, texts))
        await let_go(s)
        assert 0 < tail.weight <= 4 << 20
        await one.send("publish", stream="group/ops", type="said", text="the last")
        got: list[str] = []
        async for event in one.events("group/ops", after=0):
            got.append(event.data["text"])
            if got[-1] == "the last":
                break
        assert got == [*texts, "the last"]


async def test_an_idle_service_frees_the_pages_of_what_it_wrote(tmp_path: Path) -> None:
    texts = [str(n) * 1000 for n in range(1000, 1200)]
    async with stored(tmp_path / "data") as s, s.client(1, admin=True) as one:
        await asyncio.gather(
            *(one.send("publish", stream="group/ops", type="said", text=text) for text in texts)
        )
        held = sqlite_bytes()
        await let_go(s)
        assert held - sqlite_bytes() > sum(map(len, texts)) // 2


async def test_pages_that_are_let_go_while_the_log_closes_are_no_fault(tmp_path: Path) -> None:
    async with stored(tmp_path / "data") as s:
        pass
    await let_go(s)


async def test_a_service_inside_a_program_lets_go_when_the_loop_is_idle_and_leaves_garbage_to_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for inside in (False, True):
        machine = Machine()
        monkeypatch.setattr("huahuo.embedding.huahuo.Tidier", machine.tidier)
        app = Huahuo(data=tmp_path / str(inside), port=0)
        await (app.start_inside() if inside else app.start())
        await app.publish("group/ops", "said", {"text": "hello"})
        assert (machine.runs, machine.collects) == (True, False)
        machine.let_go()
        await app.publish("group/ops", "said", {"text": "still here"})
        await app.stop()
        assert not machine.runs


class Machine:
    """In place of the tidier: it is told when the loop is idle."""

    runs = False
    collects = True

    def tidier(
        self, loop: asyncio.AbstractEventLoop, *, collects: bool, let_go: Callable[[], None]
    ) -> AbstractContextManager[None]:
        self.collects, self.let_go = collects, let_go
        return self.living()

    @contextmanager
    def living(self) -> Iterator[None]:
        self.runs = True
        yield
        self.runs = False
