"""The processes of a benchmark: where they run, what they cost, and a dialogue with them in lines of JSON.

A child answers on a pipe that nothing else writes to. Its standard output is its parent's standard error, so
a log line or a `print` of a library cannot be taken for an answer. One that is started by hand answers on
standard output.
"""

import contextlib
import json
import os
import queue
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PIPE = "BENCH_ANSWERS_FD"
"""The environment variable with the number of the pipe's file descriptor."""
FLAGS = ("-O2",)
START_TIMEOUT_S = 60
_STDERR = 2
_TICKS_S = os.sysconf("SC_CLK_TCK")


def answer(message: Mapping[str, Any]) -> None:
    """Write one line to the parent, at once."""
    line = json.dumps(message) + "\n"
    number = os.environ.get(PIPE)
    if number is None:
        sys.stdout.write(line)
        sys.stdout.flush()
        return
    data = line.encode()
    while data:
        data = data[os.write(int(number), data) :]


def build(source: Path, directory: Path) -> Path | None:
    """The program of a C file, made once for each version of it; None where it cannot be made."""
    target = directory / source.stem
    compiler = shutil.which("cc") if sys.platform == "linux" else None
    if target.exists() and target.stat().st_mtime >= source.stat().st_mtime:
        return target
    if compiler is None:
        return None
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        made = Path(folder) / target.name
        if subprocess.call([compiler, *FLAGS, "-o", str(made), str(source)]):
            return None
        return made.replace(target)


def cores() -> tuple[int | None, int | None]:
    """A core for the server and one for its clients; None and None where there are no two."""
    found = sorted(os.sched_getaffinity(0))
    return (found[0], found[1]) if len(found) > 1 else (None, None)


@contextlib.contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """What this thread starts meanwhile runs on `core` alone. None: wherever it likes."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def move(pid: int, core: int) -> None:
    """Move all threads of a process to `core`."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(task.name), {core})


def raise_files_max() -> None:
    """As many sockets as the machine lets us have."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def cpu_s(pids: Iterable[int]) -> float:
    """Processor seconds, user and system, that these processes have used (Linux)."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS_S


def resident_bytes(pid: int) -> int:
    """The resident set of a process."""
    return _status_kib(pid, "VmRSS") << 10


def peak_bytes(pid: int) -> int:
    """The most that a process ever had resident."""
    return _status_kib(pid, "VmHWM") << 10


def _status_kib(pid: int, name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"))
    assert found
    return int(found.group(1))


class Child:
    """A process that answers lines of JSON with lines of JSON (`answer`). The first line: it is ready."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        environ: dict[str, str] | None = None,
        start_timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        answers, its_end = os.pipe()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=_STDERR,
            text=True,
            env=os.environ | (environ or {}) | {PIPE: str(its_end)},
            pass_fds=(its_end,),
            preexec_fn=raise_files_max,  # noqa: PLW1509  the reader's thread starts later
        )
        os.close(its_end)
        self.pid = self._process.pid
        self._answers = answers
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.hello = self.receive(start_timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def send(self, **message: object) -> None:
        """Say something."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()

    def receive(self, timeout_s: float) -> dict[str, Any]:
        """The next line.

        Raises:
            TimeoutError: none came in time, or the process has ended.
        """
        try:
            line = self._lines.get(timeout=timeout_s)
        except queue.Empty:
            raise TimeoutError(f"no answer within {timeout_s:g} s") from None
        if not line:
            raise TimeoutError(f"the process ended with {self._process.wait()}")
        found: dict[str, Any] = json.loads(line)
        return found

    def ask(self, timeout_s: float = 60, **message: object) -> dict[str, Any]:
        """Say something and wait for the answer."""
        self.send(**message)
        return self.receive(timeout_s)

    def heard(self) -> list[dict[str, Any]]:
        """What came meanwhile, without waiting."""
        found = []
        with contextlib.suppress(queue.Empty):
            while line := self._lines.get_nowait():
                found.append(json.loads(line))
        return found

    def kill(self) -> None:
        """`kill -9`."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """End it: politely, then not. Idempotent."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self.kill()
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def _read(self) -> None:
        with os.fdopen(self._answers, encoding="utf-8") as lines:
            for line in lines:
                self._lines.put(line)
        self._lines.put("")


class Server:
    """A process that listens; its own command line says where."""

    def __init__(
        self,
        command: Sequence[str],
        port: int,
        *,
        environ: dict[str, str] | None = None,
        cgroup: Path | None = None,
    ) -> None:
        """`cgroup`: where it lives, from its first instruction."""
        self._process = subprocess.Popen(
            command,
            env=environ,
            stdout=subprocess.DEVNULL,
            preexec_fn=None if cgroup is None else lambda: _enter(cgroup),  # noqa: PLW1509  before any thread
        )
        self.pid = self._process.pid
        deadline_s = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            if time.monotonic() > deadline_s or self._process.poll() is not None:
                self.stop()
                raise TimeoutError(f"{Path(command[0]).name} does not listen")
            time.sleep(0.02)

    def stop(self) -> None:
        """Kill it. Idempotent."""
        self._process.kill()
        self._process.wait()


def _enter(cgroup: Path) -> None:
    (cgroup / "cgroup.procs").write_text("0", encoding="ascii")


@contextlib.contextmanager
def memory_cgroup(bytes_max: int) -> Iterator[Path | None]:
    """A cgroup with that much memory; its processes must end before it. None: none can be made."""
    root, most = Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"
    if not root.is_dir():
        root, most = Path("/sys/fs/cgroup"), "memory.max"
    made = root / f"huahuo-bench-{os.getpid()}"
    try:
        made.mkdir()
    except OSError:
        yield None
        return
    try:
        try:
            (made / most).write_text(str(bytes_max), encoding="ascii")
        except OSError:
            yield None
        else:
            yield made
    finally:
        made.rmdir()


def await_end(pids: Iterable[int]) -> None:
    """Wait until these have ended: the children of one that was killed."""
    for pid in pids:
        while Path(f"/proc/{pid}").exists():
            time.sleep(0.02)


def children(pid: int) -> list[int]:
    """The processes that this one has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port
