"""The stop of a whole service: one end for all who ask for it."""

import asyncio
from pathlib import Path

import pytest

from huahuo.app.application import standard
from huahuo.app.config import Settings
from huahuo.app.wiring import App
from huahuo.eventstore.ambient import SystemAmbient


def app_of(data: Path) -> App:
    return App(Settings(data=data, port=0, drain_timeout_s=8), SystemAmbient(), plugins=standard())


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
