"""A running service: its backups, its retention, and one end for all who ask for it."""

import asyncio
from pathlib import Path

import pytest

from huahuo.app.application import standard
from huahuo.app.config import Settings
from huahuo.app.wiring import App
from huahuo.errors import ConfigError
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.storage import upkeep
from tests.support.drivers.http import client as http_client
from tests.support.worlds.storing import stored
from tests.support.worlds.wire import until


async def test_a_running_service_backs_itself_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "_FIRST_S", 0.0)
    target = tmp_path / "backups"
    async with stored(tmp_path / "data", backup_to=str(target)) as s:
        await s.app.publisher.publish("group/ops", "tick", {})
        made = s.app.storing.backups
        assert made is not None
        await until(lambda: made.made == 1 or made.failures > 0)
        assert made.failure is None
        assert len(list(target.iterdir())) == 1


async def test_old_events_go_by_themselves_and_a_client_from_before_is_told_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "STEP_PAUSE_S", 0.0)
    monkeypatch.setattr(upkeep, "SWEEP_S", 0.01)
    async with stored(tmp_path / "data", retention=("group/*=1KiB", "ds/*=1KiB")) as s:
        for number in range(40):
            await s.app.publisher.publish("group/ops", "tick", {"number": number})
        async with http_client(s.app.url, s.token(1, admin=True)) as http:
            text = {"Content-Type": "text/plain"}
            await http.put("/ds/notes", headers=text)
            for _ in range(40):
                await http.post("/ds/notes", headers=text, content=b"x" * 50)
            await until(lambda: min(s.app.log.head(one).first for one in ("group/ops", "ds/notes")) > 1)
            assert (await http.get("/ds/notes", params={"offset": f"{2:016}"})).status_code == 410
            assert (await http.get("/ds/notes", params={"offset": "-1"})).text.startswith("x")
        async with s.client(1, admin=True) as client, client.events("group/ops", "start") as events:
            assert (await events.ready()).outcome == "gap"
        assert s.app.storing.retention is not None
        assert s.app.storing.retention.pruned > 40


async def test_a_rule_that_cannot_be_read_is_named_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="soon"):
        async with stored(tmp_path / "data", retention=("group/*=soon",)):
            pass


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
