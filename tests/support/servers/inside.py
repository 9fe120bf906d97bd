"""An application inside a real ASGI server as a child process, for tests that kill it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from huahuo.app import credentials
from huahuo.eventstore.ambient import SystemAmbient
from tests.support.patience import WITHIN_S
from tests.support.servers.ports import held_port
from tests.support.servers.serving import JWT_SECRET, MASTER_KEY

ROOT = Path(__file__).resolve().parents[3]
UVICORN = ("uvicorn", "--host", "127.0.0.1", "--port", "{port}")
HYPERCORN = ("hypercorn", "--workers", "0", "--bind", "127.0.0.1:{port}")
GUNICORN = ("gunicorn", "-w", "1", "-k", "uvicorn_worker.UvicornWorker", "--bind", "127.0.0.1:{port}")


class Inside:
    """One application and the process that serves it now; on the same port each time."""

    def __init__(self, application: str, folder: Path, command: Sequence[str], port: int) -> None:
        self._application = application
        self._folder = folder
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self.port = port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def token(self, user_id: int, *, admin: bool = False) -> str:
        return credentials.mint(
            JWT_SECRET.encode(), SystemAmbient(), user_id=user_id, username=str(user_id), admin=admin
        )

    def start(self) -> None:
        """Start, and wait until the port is open."""
        environ = os.environ | {
            "HUAHUO_JWT_SECRET": JWT_SECRET,
            "HUAHUO_MASTER_KEY": MASTER_KEY,
            "PYTHONPATH": f"{self._folder}{os.pathsep}{ROOT}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        words = [word.format(port=self.port) for word in self._command]
        with (self._folder / "asgi.log").open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *words, self._application],
                cwd=self._folder, env=environ, stdout=log, stderr=log,
            )  # fmt: skip
        until_s = time.monotonic() + WITHIN_S
        while not self._is_open():
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < until_s, self.log()
            time.sleep(0.02)

    def kill(self) -> None:
        """`kill -9`."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        return self._end(signal.SIGTERM)

    def ended(self) -> int:
        """The exit code of a process that ends by itself."""
        assert self._process is not None
        return self._process.wait(WITHIN_S)

    def log(self) -> str:
        return (self._folder / "asgi.log").read_text()

    def _is_open(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        return process.wait(WITHIN_S)


@contextlib.contextmanager
def inside(application: str, folder: Path, command: Sequence[str] = UVICORN) -> Iterator[Inside]:
    """Serve MODULE:NAME, imported from `folder`, and end it after the block."""
    with held_port() as port:
        server = Inside(application, folder, command, port)
        try:
            server.start()
            yield server
        finally:
            server.kill()
