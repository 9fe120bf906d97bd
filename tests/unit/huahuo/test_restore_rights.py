"""A backup that its reader may not read is not called damaged: which file it is, and whose."""

from pathlib import Path
from typing import Any

import pytest

from huahuo.app.config import Settings
from huahuo.cli.maintenance import restore
from huahuo.errors import ConfigError
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.care.backup import MANIFEST
from huahuo.eventstore.sqlite.schema import DATABASE


@pytest.mark.parametrize("name", [DATABASE, f"{DATABASE}-wal", MANIFEST])
async def test_a_file_of_a_backup_that_this_user_may_not_read_is_named_and_nothing_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The tests may run as root, which may read all."""
    backup, data = tmp_path / "backup", tmp_path / "data"
    backup.mkdir()
    for one in (DATABASE, f"{DATABASE}-wal", MANIFEST):
        (backup / one).write_bytes(b"")
    opened = Path.open

    def denied(path: Path, *args: Any, **kwargs: Any) -> Any:
        if path == backup / name:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(ConfigError, match=r"cannot be used: Permission denied\. This is user") as told:
        await restore(Settings(data=data), FakeAmbient(1), str(backup), as_json=False)
    assert str(told.value).startswith(str(backup / name))
    assert not data.exists()
