"""Why a service cannot listen, in words that say what to do."""

import errno
import socket
from pathlib import Path
from typing import cast

import pytest

from huahuo.app import service_port
from huahuo.app.config import Settings
from huahuo.app.workers import open_port
from huahuo.errors import ConfigError
from huahuo.transport.server.server import Server

ELSEWHERE = "203.0.113.9"
"""An address of documents, which no machine has."""


def test_workers_listen_at_those_addresses_of_a_host_that_this_machine_has() -> None:
    addresses = [(socket.AF_INET, (ELSEWHERE, 0)), (socket.AF_INET, ("127.0.0.1", 0))]
    [sock] = service_port.bound_all(addresses, shared=True)
    with sock:
        assert sock.getsockname()[0] == "127.0.0.1"
    with pytest.raises(OSError, match="assign"):
        service_port.bound_all(addresses[:1], shared=True)


class Full:
    """A server in a process that may open no more files."""

    async def start(self, _host: str, _port: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")


async def test_a_process_that_may_open_no_more_files_says_what_raises_the_bound(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"this process may open \d+ files only. Raise that \(`ulimit -n"):
        await open_port(cast("Server", Full()), Settings(data=tmp_path))
