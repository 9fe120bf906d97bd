"""The real Redis, or Valkey, on a free port of 127.0.0.1, without a file; stopped at the end."""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as NotYetError

from tests.support.patience import WITHIN_S
from tests.support.servers.ports import held_port

INSTALL = "neither redis-server nor valkey-server is installed: apt-get install redis-server"


@contextlib.contextmanager
def redis_server() -> Iterator[str]:
    """Start it, wait until it answers; its URL, for Celery and RQ. Skips if there is no program."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        pytest.skip(INSTALL)
    with held_port() as port:
        command = [program, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
        url = f"redis://127.0.0.1:{port}/0"
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            _wait_for(url, process)
            yield url
        finally:
            process.kill()
            process.wait(WITHIN_S)


def _wait_for(url: str, process: "subprocess.Popen[bytes]") -> None:
    until_s = time.monotonic() + WITHIN_S
    with Redis.from_url(url) as asking:
        while True:
            with contextlib.suppress(NotYetError):
                asking.ping()
                return
            assert process.poll() is None, "it has ended by itself"
            assert time.monotonic() < until_s
            time.sleep(0.02)
