"""Backups by a running service, made in a process of its own."""

from pathlib import Path

import pytest

from huahuo.storage import upkeep
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
