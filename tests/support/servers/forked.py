"""`huahuo serve` as the fork of a process that has imported it already: it listens half a second sooner.

    service = Forked(["serve", "--data", "d"], environ, folder, log)
    service.stdout.readline(); service.send_signal(SIGTERM); service.wait(10)

The process that is forked has neither threads nor a loop, so that the fork is what a new process would be.
What an interpreter reads at its start (`PYTHON…`, the locale) is as it was in the tests' own process, but
`PYTHONPATH` holds.
"""

import atexit
import contextlib
import functools
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import IO

MODULES = (
    "huahuo.cli.main", "huahuo.app.application", "huahuo.app.process", "huahuo.embedding.huahuo",
    "huahuo.mailcheck.plugin.mail", "huahuo.mailcheck.api.mail_index", "huahuo.mailcheck.classic.routes",
    "huahuo.mailcheck.plugin.domain", "huahuo.transport.server.server",
)  # fmt: skip
"""What a service has imported when it listens, or most of it."""
_REQUEST_BYTES = 1 << 17


class Forked:
    """A running fork, with what `subprocess.Popen` has of it."""

    def __init__(self, words: list[str], environ: dict[str, str], folder: Path | None, log: IO[str]) -> None:
        read, write = os.pipe()
        self._ended, tell = os.pipe()
        request = json.dumps([["huahuo", *words], environ, str(folder or Path.cwd())]).encode()
        parent = _parent()
        socket.send_fds(parent, [request], [write, log.fileno(), tell])
        os.close(write)
        os.close(tell)
        self.pid = int(parent.recv(32))
        self.stdout = os.fdopen(read, encoding="utf-8")
        self.returncode: int | None = None

    def poll(self, timeout_s: float = 0.0) -> int | None:
        """Its exit code, once it has ended."""
        if self.returncode is None and select.select([self._ended], [], [], timeout_s)[0]:
            self.returncode = int(os.read(self._ended, 32))
            os.close(self._ended)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it, if the process runs."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """`kill -9`."""
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout_s: float) -> int:
        """Its exit code. Raises TimeoutExpired."""
        code = self.poll(timeout_s)
        if code is None:
            raise subprocess.TimeoutExpired("huahuo", timeout_s)
        return code


@functools.cache
def _parent() -> socket.socket:
    """The way to the process that is forked. It ends with this one, and with it all that it forked."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        stdout=subprocess.DEVNULL,
    )
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _fork_on_request(asks: socket.socket) -> None:
    """Fork for each request, until nobody is there to ask. Returns in each fork, which is the program."""
    running: dict[int, int] = {}
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        if woken in select.select([asks.fileno(), woken], [], [])[0]:
            os.read(woken, 1 << 10)
            while running and (ended := os.waitpid(-1, os.WNOHANG))[0]:
                tell = running.pop(ended[0])
                os.write(tell, b"%d" % os.waitstatus_to_exitcode(ended[1]))
                os.close(tell)
            continue
        request, fds, *_ = socket.recv_fds(asks, _REQUEST_BYTES, 3)
        if not request:
            for pid in running:
                os.kill(pid, signal.SIGKILL)
            os._exit(0)
        out, log, tell = fds
        if pid := os.fork():
            running[pid] = tell
            os.close(out)
            os.close(log)
            asks.send(b"%d" % pid)
            continue
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(out, 1)
        os.dup2(log, 2)
        asks.close()
        for fd in (out, log, tell, woken, wake, *running.values()):
            os.close(fd)
        sys.argv, environ, folder = json.loads(request)
        os.environ.clear()
        os.environ.update(environ)
        os.chdir(folder)
        sys.path[0] = folder
        for path in filter(None, environ.get("PYTHONPATH", "").split(os.pathsep)):
            sys.path.insert(1, path)
            if (at_start := Path(path, "sitecustomize.py")).exists():
                runpy.run_path(str(at_start))
        return


if __name__ == "__main__":
    for module in MODULES:
        __import__(module)
    gc.freeze()
    _fork_on_request(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_module("huahuo", run_name="__main__", alter_sys=True)
