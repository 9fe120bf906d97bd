"""What a system under measurement offers to the questions."""

import contextlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self

from bench.clients.script import Script
from bench.harness.procs import Child, Server, cpu_s


class Control(Protocol):
    """Obeys the commands of `source.obey`."""

    def send(self, **message: object) -> None:
        """Say something that has no answer."""
        ...

    def ask(self, timeout_s: float = 60, **message: object) -> dict[str, Any]:
        """Say something and wait for the answer."""
        ...


class Driven(Protocol):
    """What a measurement needs of a started system."""

    @property
    def control(self) -> Control:
        """Where events come from."""
        ...

    def cpu_s(self) -> float:
        """Processor seconds of the servers so far."""
        ...


@dataclass
class Running:
    """A started system: `control` obeys the commands of `source.obey`, `pids` are what it costs."""

    control: Child
    port: int
    pids: list[int]
    server: Server | None = None
    """The server, where `control` only publishes to it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def cpu_s(self) -> float:
        """Processor seconds of the server so far."""
        return cpu_s(self.pids)

    def kill(self) -> None:
        """`kill -9` to the server."""
        if self.server is not None:
            self.server.stop()
        else:
            self.control.kill()

    def stop(self) -> None:
        """End every process. Idempotent."""
        with contextlib.ExitStack() as stack:
            if self.server is not None:
                stack.callback(self.server.stop)
            stack.callback(self.control.stop)


class Peer(ABC):
    """One system. `name` is what tables and `--peers` say."""

    name: ClassVar[str]
    note: ClassVar[str] = ""
    """What a reader of the table must know about how it was run."""

    def missing(self) -> str:
        """Why it cannot run here, "" if it can."""
        return ""

    @abstractmethod
    def version(self) -> str:
        """Which one was measured."""

    @abstractmethod
    def start(self, folder: Path) -> Running:
        """Start it with an empty store in `folder`."""

    def restart(self, running: Running, folder: Path) -> Running:
        """Start it again after `running.kill()`, over what is left in `folder`."""
        running.stop()
        return self.start(folder)

    @abstractmethod
    def group(self, running: Running, count: int) -> Script:
        """`count` connections that all read one group."""

    @abstractmethod
    def feeds(self, running: Running, count: int) -> Script:
        """A connection for each user 1 … `count`, each reading that user's own stream."""
