"""The socket by which nodes ask the demo to kill, freeze and heal its processes: a line of JSON each."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

import msgspec

from huahuo.demo.children import Child, ChildFact, Fault

SOCKET: Final = "DEMO_SWITCHBOARD"
"""The environment variable with the socket's path."""
BEFORE_S: Final = 0.3
"""A fault waits this long, so that the node that asks for its own can answer first."""
_ANSWER_S: Final = 5.0


class Wanted(msgspec.Struct, frozen=True):
    """What a node asks: with a name, to do this to that process; in any case, how all are."""

    name: str = ""
    fault: Fault = "heal"


class Processes(msgspec.Struct, frozen=True):
    """All processes. `known`: whether there is one of that name."""

    known: bool
    facts: list[ChildFact]


class Switchboard:
    """See the module. Use it with `async with`."""

    def __init__(self, path: Path, children: Sequence[Child]) -> None:
        self._path = path
        self._children = {child.name: child for child in children}
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._serve, self._path)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            wanted = msgspec.json.decode(await reader.readline(), type=Wanted)
        except msgspec.MsgspecError:
            writer.close()
            return
        child = self._children.get(wanted.name)
        if child is not None:
            task = asyncio.create_task(self._do(child, wanted.fault))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        facts = [one.fact for one in self._children.values()]
        writer.write(msgspec.json.encode(Processes(child is not None, facts)) + b"\n")
        writer.close()

    async def _do(self, child: Child, fault: Fault) -> None:
        await asyncio.sleep(BEFORE_S)
        await child.do(fault)


async def ask(path: str, wanted: Wanted) -> Processes:
    """Ask the demo. Raises OSError, TimeoutError, msgspec.MsgspecError: it is gone."""
    async with asyncio.timeout(_ANSWER_S):
        reader, writer = await asyncio.open_unix_connection(path)
        try:
            writer.write(msgspec.json.encode(wanted) + b"\n")
            return msgspec.json.decode(await reader.readline(), type=Processes)
        finally:
            writer.close()
