"""Giving copies of this node's replica to nodes that join: made once, handed out in pieces, then removed.

A copy is made for the first node that asks and serves all that ask within `FRESH_S`. Its pieces can be asked
for in any order and again, so a node whose connection broke goes on where it was.
"""

import asyncio
import contextlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import structlog

from huahuo.cluster import errors
from huahuo.cluster.errors import Refused
from huahuo.cluster.peers import Peers
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.care.row_sums import RowSums
from huahuo.eventstore.core.changes import Passed
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.sqlite.replica import held_in
from huahuo.eventstore.sqlite.schema import DATABASE

BEGIN, PIECE, ENDS = "copy_begin", "copy_piece", "ends"
PIECE_BYTES: Final = 4 << 20
FRESH_S: Final = 300.0
UNUSED_S: Final = 600.0
"""A copy of which no piece was asked for this long is removed."""
FOLDER: Final = "copies"
_ROOM: Final = 64 << 20
_log = structlog.get_logger(__name__)


class Begin(msgspec.Struct, frozen=True):
    """Make a copy, or name the one there is if the proposal `first` is the next that it needs, or older.

    `first`: the oldest proposal that the ordered log keeps. Nodes of an older version do not heed it.
    """

    first: int = 0


class Offered(msgspec.Struct, frozen=True):
    """A copy: its name, its size, and the last offset that it has applied. Size 0: it is being made.

    `rows`: what its tables sum up to. Nodes of an older version do not say it.
    """

    name: str
    size: int = 0
    offset: int = 0
    digest: bytes = b""
    rows: RowSums = {}

    def leads_to(self, first: int) -> bool:
        """Whether an ordered log that begins at `first` still has all that comes after this copy."""
        return self.offset + 1 >= first


class Piece(msgspec.Struct, frozen=True):
    """The bytes of a copy from `at` on."""

    name: str
    at: int


class Where(msgspec.Struct, frozen=True):
    """What a node had after the proposal at this offset."""

    offset: int


class Ended(msgspec.Struct, frozen=True):
    """The answer; None: that is too long ago, or still to come."""

    passed: Passed | None


class Copies:
    """See the module. `data`: the directory of the replica. Call `close` at the end."""

    def __init__(self, data: Path, ambient: Ambient) -> None:
        self._data = data
        self._folder = data / FOLDER
        self._ambient = ambient
        self._offered: Offered | None = None
        self._made_s = self._used_s = 0.0
        self._making: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def serve(self, peers: Peers, told: Callable[[int], Passed | None]) -> None:
        """Answer nodes from now on. `told`: what this replica had after the proposal at an offset."""
        peers.on(BEGIN, Begin, self._begin)
        peers.on(PIECE, Piece, self._piece)

        async def ends(_node: str, asked: Where) -> Ended:
            return Ended(told(asked.offset))

        peers.on(ENDS, Where, ends)

    async def close(self) -> None:
        """Remove what there is."""
        for task in (self._making, self._watching):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        self._remove()

    async def _begin(self, node: str, asked: Begin) -> Offered:
        now_s, making = self._ambient.monotonic_s(), self._making
        is_new = making is not None and making.done()
        if making is not None and is_new:
            self._making = None
            making.result()  # raises why there is none
        offered = self._offered
        if offered and (is_new or (now_s - self._made_s < FRESH_S and offered.leads_to(asked.first))):
            self._used_s = now_s
            return offered
        if self._making is None:
            self._remove()
            name = self._ambient.token(8)
            _log.info("copy_for_node", node=node)
            self._making = asyncio.create_task(self._make(name), name="copy for a node")
        return Offered("")

    async def _make(self, name: str) -> None:
        """Offer a copy. It counts from now on, also if the node that asked for it never comes back."""
        try:
            self._offered = await self._copied(name)
        except BaseException:
            self._remove()
            raise
        self._made_s = self._used_s = self._ambient.monotonic_s()
        self._watching = self._watching or asyncio.create_task(self._watch(), name="copies")

    async def _copied(self, name: str) -> Offered:
        source, target = self._data / DATABASE, self._folder / DATABASE
        size = sum(file.stat().st_size for file in self._data.glob(f"{DATABASE}*"))
        if shutil.disk_usage(self._data).free < size + _ROOM:
            raise Refused("storage_full", f"its disk has no room for a copy of {size >> 20} MiB")
        self._folder.mkdir(mode=0o700, exist_ok=True)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "huahuo.cluster.copying", str(source), str(target),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            sums, said = await process.communicate()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        try:
            held = held_in(self._folder) if process.returncode == 0 else None
        except EventStoreError as error:
            raise Refused(errors.FAILED, str(error)) from None
        if held is None:
            lines = said.decode(errors="replace").strip().splitlines()
            raise Refused(errors.FAILED, lines[-1] if lines else "the copy could not be made")
        rows = msgspec.json.decode(sums, type=RowSums)
        return Offered(name, target.stat().st_size, held.offset, held.digest, rows)

    async def _piece(self, _node: str, asked: Piece) -> bytes:
        if self._offered is None or asked.name != self._offered.name:
            raise Refused(errors.NOT_FOUND, "that copy is gone: begin again")
        self._used_s = self._ambient.monotonic_s()
        with (self._folder / DATABASE).open("rb") as file:
            file.seek(max(0, asked.at))
            return file.read(PIECE_BYTES)

    async def _watch(self) -> None:
        wait_s = UNUSED_S
        while wait_s > 0:
            await asyncio.sleep(wait_s)
            wait_s = UNUSED_S - (self._ambient.monotonic_s() - self._used_s)
        self._watching = None
        self._remove()

    def _remove(self) -> None:
        self._offered = None
        shutil.rmtree(self._folder, ignore_errors=True)
