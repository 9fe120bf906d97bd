"""Backups of a replica for nodes that join: given by a living node, fetched, checked, put in place.

A copy is made for the first node that asks and serves all that ask within `FRESH_S`. Its pieces can be
asked for in any order and again, so a node whose connection broke goes on where it was.

    joining/log.db       what came so far
    joining/backup.json  what the giver says of it
    joining/copy.json    which copy of which node it is: the same process or its next one goes on with it

A copy counts once its pages, its chain, its end and the sums of its rows are right, it is of the right
log, and no other node that can say had another digest at that place.
"""

import asyncio
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import structlog

from huahuo.cluster import node_requests
from huahuo.cluster.members import Member
from huahuo.cluster.node_requests import Asker, NodeError, NodeRefused, NodeSilent, Peers, Refused
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.care.backup import MANIFEST, check_backup, move_log
from huahuo.eventstore.care.verify import Verified
from huahuo.eventstore.core.storage_port import Passed
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.executor import ThreadExecutor
from huahuo.eventstore.sqlite.directory_lock import DirectoryLock, Left
from huahuo.eventstore.sqlite.log import held_in, must_know
from huahuo.eventstore.sqlite.mark import MARK, Mark, MarkFile
from huahuo.eventstore.sqlite.schema import DATABASE
from huahuo.storage.copying import in_child

BEGIN, PIECE, ENDS = "copy_begin", "copy_piece", "ends"
PIECE_BYTES: Final = 4 << 20
FRESH_S: Final = 300.0
UNUSED_S: Final = 600.0
"""A copy of which no piece was asked for this long is removed."""
COPIES_FOLDER: Final = "copies"
_ROOM: Final = 64 << 20
_log = structlog.get_logger(__name__)


class Begin(msgspec.Struct, frozen=True):
    """Make a copy, or name the one there is if the proposal `first` is the next that it needs, or older.

    `first`: the oldest proposal that the ordered log keeps.
    """

    first: int = 0


class Offered(msgspec.Struct, frozen=True):
    """A backup: its name, its size, and the last offset that it has applied. Size 0: it is being made."""

    name: str
    size: int = 0
    offset: int = 0
    digest: bytes = b""
    manifest: bytes = b""

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
    """Giving copies of this node's replica to nodes that join: made once, handed out in pieces, then removed.

    `data`: the directory of the replica. Call `close` at the end.
    """

    def __init__(self, data: Path, ambient: Ambient) -> None:
        self._data = data
        self._folder = data / COPIES_FOLDER
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
        size = sum(file.stat().st_size for file in self._data.glob(f"{DATABASE}*"))
        if shutil.disk_usage(self._data).free < size + _ROOM:
            raise Refused("storage_full", f"its disk has no room for a copy of {size >> 20} MiB")
        made = await in_child(self._data, str(self._folder))
        try:
            held = None if made.error else held_in(self._folder)
        except EventStoreError as error:
            raise Refused(node_requests.FAILED, str(error)) from None
        if held is None:
            raise Refused(node_requests.FAILED, made.error or "the copy could not be made")
        target, manifest = self._folder / DATABASE, (self._folder / MANIFEST).read_bytes()
        return Offered(name, target.stat().st_size, held.offset, held.digest, manifest)

    async def _piece(self, _node: str, asked: Piece) -> bytes:
        if self._offered is None or asked.name != self._offered.name:
            raise Refused(node_requests.NOT_FOUND, "that copy is gone: begin again")
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


JOINING_FOLDER: Final = "joining"
COPY_NOTE: Final = "copy.json"
ASK_AGAIN_S: Final = 0.2
PIECE_S: Final = 60.0
TRIES_MAX: Final = 5
"""Of one piece, before another node is asked."""

type Tell = Callable[[str], None]


class Noted(msgspec.Struct, frozen=True):
    """Whose copy it is."""

    node: str
    copy: Offered


class NoCopy(Exception):  # noqa: N818  the condition is the name
    """No node gave a copy that can be used. The text says why, for each."""


async def fetch_copy(
    data: Path, living: Mapping[str, Member], asker: Asker, log_id: str, tell: Tell, first: int = 0
) -> str:
    """Put a copy of one of the `living` nodes into `data`, in place of what is there; returns its node.

    `tell` hears how far it is. `first`: the oldest proposal that the ordered log keeps.

    Raises:
        NoCopy: none of them gave one. What `data` held is untouched.
        InUse: another process uses the directory.
    """
    lock = _locked(data)
    left: Left | None = None
    try:
        node = await _fetch(data, living, asker, log_id, tell, first)
        left = Left()
    finally:
        lock.leave(left)
    return node


async def _fetch(
    data: Path, living: Mapping[str, Member], asker: Asker, log_id: str, tell: Tell, first: int
) -> str:
    folder = data / JOINING_FOLDER
    begun = _noted(folder)
    order = sorted(living, key=lambda node: (begun is None or node != begun.node, -living[node].applied))
    reasons = []
    for node in order:
        try:
            offered = await _fetched(folder, node, living[node].url, asker, tell, first)
            found = await _check(folder, offered, log_id, living, node, asker, tell)
        except (NodeError, EventStoreError, OSError) as error:
            _log.warning("no_copy", node=node, reason=str(error))
            reasons.append(f"{node}: {error}")
            continue
        _put(folder, data, Mark(found.log_id, found.position, found.chain))
        return node
    raise NoCopy("; ".join(reasons) or "no other node lives")


async def _fetched(folder: Path, node: str, url: str, asker: Asker, tell: Tell, first: int) -> Offered:
    """Bring the whole file; goes on where it stopped, and begins again if the copy is another one."""
    offered = Offered("")
    while not offered.name:
        tell(f"this node waits for the copy that {node} makes for it")
        offered = await asker.ask(url, node, BEGIN, Begin(first), Offered)
        if not offered.name:
            await asyncio.sleep(ASK_AGAIN_S)
    if not offered.leads_to(first):
        why = f"its copy ends at {offered.offset}, and the ordered log begins at {first}"
        raise NodeRefused(node, node_requests.FAILED, why)
    if shutil.disk_usage(folder).free < offered.size + _ROOM:
        raise OSError(f"the disk has no room for its {offered.size >> 20} MiB")
    path, begun = folder / DATABASE, _noted(folder)
    if begun != Noted(node, offered):
        path.unlink(missing_ok=True)
        (folder / COPY_NOTE).write_bytes(note_of(node, offered))
    (folder / MANIFEST).write_bytes(offered.manifest)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "ab") as file:
        while (at := file.tell()) < offered.size:
            tell(f"this node fetches a copy from {node}: {at >> 20} of {offered.size >> 20} MiB")
            file.write(await _piece(node, url, Piece(offered.name, at), asker))
        file.flush()
        os.fsync(file.fileno())
    return offered


async def _piece(node: str, url: str, piece: Piece, asker: Asker) -> bytes:
    for tries in range(TRIES_MAX):
        try:
            data = await asker.ask(url, node, PIECE, piece, bytes, timeout_s=PIECE_S)
        except NodeSilent:
            if tries == TRIES_MAX - 1:
                raise
            await asyncio.sleep(ASK_AGAIN_S * 2**tries)
        else:
            if data:
                return data
            raise NodeRefused(node, node_requests.FAILED, "its copy ends too early")
    raise AssertionError("not reached")


async def _check(
    folder: Path, offered: Offered, log_id: str, living: Mapping[str, Member], giver: str, asker: Asker,
    tell: Tell,
) -> Verified:  # fmt: skip
    """Where the copy ends. Raises EventStoreError: it is not what all nodes have. It is removed then."""
    try:
        must_know(folder)
        found = await _look_through(
            folder, lambda done: tell(f"this node checks the copy that {giver} gave: {done:.0%}")
        )
        _must_be(folder, offered, log_id)
        others = {node: member.url for node, member in living.items() if node != giver}
        differing = [node for node, url in others.items() if await _differs(url, node, offered, asker)]
        _must_agree(differing, len(living))
    except EventStoreError:
        _clear(folder)
        raise
    return found


async def _look_through(folder: Path, tell: Callable[[float], None]) -> Verified:
    """Check the backup on another thread: `/readyz` still answers. Raises Damaged."""
    executor, loop = ThreadExecutor(1, "check"), asyncio.get_running_loop()

    def told(done: float) -> None:
        loop.call_soon_threadsafe(tell, done)

    try:
        return await executor.run(lambda: asyncio.run(check_backup(folder, told)))
    finally:
        executor.close(wait=False)


def _must_be(folder: Path, offered: Offered, log_id: str) -> None:
    held = held_in(folder)
    if held is None or held.log_id != log_id:
        raise EventStoreError("the copy is of another log")
    if (held.offset, held.digest) != (offered.offset, offered.digest):
        raise EventStoreError("the copy is not the one that was offered")


def _must_agree(differing: Sequence[str], nodes: int) -> None:
    if differing and 2 * len(differing) >= nodes:
        raise EventStoreError(f"its history differs from that of {', '.join(differing)}")


def _clear(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, exist_ok=True)


def _locked(data: Path) -> DirectoryLock:
    (data / JOINING_FOLDER).mkdir(mode=0o700, parents=True, exist_ok=True)
    return DirectoryLock(data)


async def _differs(url: str, node: str, offered: Offered, asker: Asker) -> bool:
    try:
        had = await asker.ask(url, node, ENDS, Where(offered.offset), Ended)
    except NodeError:
        return False  # it cannot say
    return had.passed is not None and had.passed.digest != offered.digest


def _put(folder: Path, data: Path, mark: Mark) -> None:
    """Replace what `data` holds. What says where the older log ended goes first; `mark` is of this one."""
    for name in (MARK, f"{DATABASE}-wal", f"{DATABASE}-shm"):
        (data / name).unlink(missing_ok=True)
    MarkFile(folder / MARK, mark).close()
    move_log(folder, data)
    shutil.rmtree(folder, ignore_errors=True)


def note_of(node: str, offered: Offered) -> bytes:
    """What the note says about this copy of that node."""
    return msgspec.json.encode(Noted(node, offered))


def _noted(folder: Path) -> Noted | None:
    try:
        return msgspec.json.decode((folder / COPY_NOTE).read_bytes(), type=Noted)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
