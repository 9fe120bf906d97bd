"""Why a service cannot listen, in words that say what to do."""

import errno
from pathlib import Path
from typing import cast

import pytest

from huahuo.app.config import Settings
from huahuo.app.listening import open_port
from huahuo.errors import ConfigError
from huahuo.transport.server.server import Server


class Full:
    """A server in a process that may open no more files."""

    async def start(self, _host: str, _port: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")


async def test_a_process_that_may_open_no_more_files_says_what_raises_the_bound(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"this process may open \d+ files only. Raise that \(`ulimit -n"):
        await open_port(cast("Server", Full()), Settings(data=tmp_path))
