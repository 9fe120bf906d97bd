"""A changed, cut or torn SQLite log is found out when it is opened or read, or by `verify`."""

from pathlib import Path

import pytest

from huahuo.eventstore.errors import Damaged
from huahuo.eventstore.sqlite.directory_lock import LOCK
from huahuo.eventstore.sqlite.schema import DATABASE
from tests.support.worlds.sqlite_logs import filled, opened


async def test_a_damaged_page_is_found_at_the_opening_after_an_unclean_stop(tmp_path: Path) -> None:
    await filled(tmp_path, 3000)
    (tmp_path / LOCK).write_text('{"pid":1}')
    raw = bytearray((tmp_path / DATABASE).read_bytes())
    page = raw.index(b"body-000041") // 8192
    raw[page * 8192 : page * 8192 + 8] = bytes(8)
    (tmp_path / DATABASE).write_bytes(raw)
    with pytest.raises(Damaged):
        await opened(tmp_path)
