"""The real `huahuo serve` as a process over a data directory, for tests that kill it.

with serving(tmp_path / "data") as server:
    server.url, server.token(42, "alice")
    server.kill(); server.start()        # kill -9, then again on the same port
"""

import contextlib
import os
import queue
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

from huahuo.app import credentials
from huahuo.eventstore.ambient import SystemAmbient
from tests.support.patience import WITHIN_S
from tests.support.servers.forked import Forked
from tests.support.servers.ports import held_port

MASTER_KEY = "5a" * 32
JWT_SECRET = "test-secret-that-is-long-enough-000000"


class Serving:
    """One data directory and the process that serves it now."""

    def __init__(
        self,
        data: Path,
        environ: dict[str, str],
        port: int,
        stderr: Path | None = None,
        *,
        app: str | None = None,
        folder: Path | None = None,
    ) -> None:
        self.data = data
        self._app = [] if app is None else ["--app", app]
        self._folder = folder
        self._stderr = stderr or data.parent / "serve.log"
        self.environ = environ
        self._process: Forked | None = None
        self.port = port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start and wait for the line that says it listens."""
        words = ["serve", *self._app, "--data", str(self.data), "--port", str(self.port)]
        with self._stderr.open("a", encoding="utf-8") as log:
            self._process = Forked(words, self.environ, self._folder, log)
        line = _first_line(self._process)
        assert line == f"listening on {self.url}\n", f"{line!r}\n{self.log()}"

    def kill(self) -> None:
        """`kill -9`."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        return self._end(signal.SIGTERM)

    def hang_up(self) -> int:
        """SIGHUP, as when its terminal closes; the exit code."""
        return self._end(signal.SIGHUP)

    def send(self, number: signal.Signals) -> None:
        """Freeze it (SIGSTOP), or let it go on (SIGCONT)."""
        if self._process is not None:
            self._process.send_signal(number)

    def log(self) -> str:
        """What the service wrote to stderr so far, over all its lives."""
        return self._stderr.read_text(encoding="utf-8")

    def token(
        self,
        user_id: int | str,
        username: str,
        *,
        admin: bool = False,
        groups: tuple[str, ...] = (),
        ttl_s: float = 3600,
    ) -> str:
        return credentials.mint(
            JWT_SECRET.encode(),
            SystemAmbient(),
            user_id=user_id,
            username=username,
            admin=admin,
            groups=groups,
            ttl_s=ttl_s,
        )

    def _end(self, number: signal.Signals) -> int:
        if self._process is None:
            return 0
        self._process.send_signal(number)
        self._process.send_signal(signal.SIGCONT)
        code = self._process.wait(WITHIN_S)
        self._process.stdout.close()
        self._process = None
        return code


@contextlib.contextmanager
def serving(
    data: Path,
    *,
    stderr: Path | None = None,
    app: str | None = None,
    folder: Path | None = None,
    **environ: str,
) -> Iterator[Serving]:
    """A service that permits mail servers on loopback; further `HUAHUO_*` settings by name.

    `stderr`: where its log lines go, if not next to the data. `app`: MODULE:NAME, imported from `folder`.
    """
    settings = {
        "HUAHUO_MAIL_ALLOW_PRIVATE": "1",
        "HUAHUO_JWT_SECRET": JWT_SECRET,
        "HUAHUO_MASTER_KEY": MASTER_KEY,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    with held_port() as port:
        server = Serving(data, os.environ | settings | environ, port, stderr, app=app, folder=folder)
        try:
            server.start()
            yield server
        finally:
            server.kill()


def _first_line(process: Forked) -> str:
    """The first line on stdout, "" if the process ends or prints nothing in time."""
    lines: queue.Queue[str] = queue.Queue()
    reader = threading.Thread(target=lambda: lines.put(process.stdout.readline()), daemon=True)
    reader.start()
    try:
        return lines.get(timeout=WITHIN_S)
    except queue.Empty:
        process.kill()
        return ""
