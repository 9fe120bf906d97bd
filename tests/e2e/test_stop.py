"""The stop of a whole service: one deadline for all its parts, and one end for all who ask for it."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from huahuo.actors import Runtime
from huahuo.actors.entities.directory import Directory
from huahuo.app.config import Settings
from huahuo.app.wiring import App
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.transport.commands.gate import Gate
from huahuo.transport.server.server import Server
from tests.support.worlds.watched_loop import WatchedLoop, watched_loop


def app_of(data: Path) -> App:
    return App(Settings(data=data, port=0, drain_timeout_s=8), SystemAmbient())


def test_all_parts_of_a_stop_share_one_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[str, float]] = []
    app = app_of(tmp_path / "data")

    def takes(used_s: float, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        async def stop_part(part: object, timeout_s: float) -> None:
            given.append((name, timeout_s))
            watched_loop().ahead_s += used_s
            await original(part, timeout_s)

        return stop_part

    for used_s, kind, method in (
        (3, Server, "drain"),
        (4, Gate, "drain"),
        (5, Directory, "close"),
        (0, Runtime, "stop"),
    ):
        monkeypatch.setattr(kind, method, takes(used_s, kind.__name__, getattr(kind, method)))

    async def main() -> None:
        await app.start()
        await app.stop()

    with asyncio.Runner(loop_factory=WatchedLoop) as runner:
        runner.run(main())
    assert [name for name, _ in given] == ["Server", "Gate", "Directory", "Runtime"]
    for (_, timeout_s), most_s in zip(given, (8, 5, 1, 0.5), strict=True):
        assert 0 < timeout_s <= most_s


async def test_a_second_stop_waits_for_the_same_end_also_after_the_first_was_cancelled(
    tmp_path: Path,
) -> None:
    app = app_of(tmp_path / "data")
    await app.start()
    first = asyncio.create_task(app.stop())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(app.stop(), app.stop())
    assert first.cancelled()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", app.port)
    await app.stop()
