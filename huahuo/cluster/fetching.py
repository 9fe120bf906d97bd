"""Fetching a copy of a replica from a living node: into `joining/`, checked there, then put in its place.

joining/log.db       what came so far
joining/copy.json    which copy of which node it is: the same process or its next one goes on with it

A copy counts once its pages, its chain, its end and the sums of its rows are right, it is of the right log,
and no other node that can say had another digest at its end.
"""

import asyncio
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import structlog

from huahuo.cluster import copies, errors
from huahuo.cluster.asking import Asker
from huahuo.cluster.copies import Ended, Offered, Piece, Where
from huahuo.cluster.errors import NodeError, NodeRefused, NodeSilent
from huahuo.cluster.members import Member
from huahuo.eventstore.care.backup import check_file
from huahuo.eventstore.care.row_sums import RowSums, must_sum_up_to
from huahuo.eventstore.care.verify import Verified
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.executor import ThreadExecutor
from huahuo.eventstore.sqlite.directory_lock import DirectoryLock, Left
from huahuo.eventstore.sqlite.mark import MARK, Mark, MarkFile
from huahuo.eventstore.sqlite.replica import held_in, must_know
from huahuo.eventstore.sqlite.schema import DATABASE

FOLDER: Final = "joining"
NOTE: Final = "copy.json"
ASK_AGAIN_S: Final = 0.2
PIECE_S: Final = 60.0
TRIES_MAX: Final = 5
"""Of one piece, before another node is asked."""
_ROOM: Final = 64 << 20
_log = structlog.get_logger(__name__)

type Tell = Callable[[str], None]


class Noted(msgspec.Struct, frozen=True):
    """Whose copy it is."""

    node: str
    copy: Offered


class NoCopy(Exception):  # noqa: N818  the condition is the name
    """No node gave a copy that can be used. The text says why, for each."""


async def fetch(
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
    folder = data / FOLDER
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
        offered = await asker.ask(url, node, copies.BEGIN, copies.Begin(first), Offered)
        if not offered.name:
            await asyncio.sleep(ASK_AGAIN_S)
    if not offered.leads_to(first):
        why = f"its copy ends at {offered.offset}, and the ordered log begins at {first}"
        raise NodeRefused(node, errors.FAILED, why)
    if shutil.disk_usage(folder).free < offered.size + _ROOM:
        raise OSError(f"the disk has no room for its {offered.size >> 20} MiB")
    path, begun = folder / DATABASE, _noted(folder)
    if begun != Noted(node, offered):
        path.unlink(missing_ok=True)
        (folder / NOTE).write_bytes(note_of(node, offered))
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
            data = await asker.ask(url, node, copies.PIECE, piece, bytes, timeout_s=PIECE_S)
        except NodeSilent:
            if tries == TRIES_MAX - 1:
                raise
            await asyncio.sleep(ASK_AGAIN_S * 2**tries)
        else:
            if data:
                return data
            raise NodeRefused(node, errors.FAILED, "its copy ends too early")
    raise AssertionError("not reached")


async def _check(
    folder: Path, offered: Offered, log_id: str, living: Mapping[str, Member], giver: str, asker: Asker,
    tell: Tell,
) -> Verified:  # fmt: skip
    """Where the copy ends. Raises EventStoreError: it is not what all nodes have. It is removed then."""
    try:
        must_know(folder)
        found = await _look_through(
            folder / DATABASE,
            offered.rows,
            lambda done: tell(f"this node checks the copy that {giver} gave: {done:.0%}"),
        )
        _must_be(folder, offered, log_id)
        others = {node: member.url for node, member in living.items() if node != giver}
        differing = [node for node, url in others.items() if await _differs(url, node, offered, asker)]
        _must_agree(differing, len(living))
    except EventStoreError:
        _clear(folder)
        raise
    return found


async def _look_through(path: Path, rows: RowSums, tell: Callable[[float], None]) -> Verified:
    """Check pages, chain and rows, on another thread: `/readyz` still answers. Raises Damaged."""
    executor = ThreadExecutor(1, "check")
    loop = asyncio.get_running_loop()

    def told(done: float) -> None:
        loop.call_soon_threadsafe(tell, done)

    def look() -> Verified:
        found = asyncio.run(check_file(path, tell=told))
        must_sum_up_to(rows, path, "copied")
        return found

    try:
        return await executor.run(look)
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
    (data / FOLDER).mkdir(mode=0o700, parents=True, exist_ok=True)
    return DirectoryLock(data)


async def _differs(url: str, node: str, offered: Offered, asker: Asker) -> bool:
    try:
        had = await asker.ask(url, node, copies.ENDS, Where(offered.offset), Ended)
    except NodeError:
        return False  # it cannot say
    return had.passed is not None and had.passed.digest != offered.digest


def _put(folder: Path, data: Path, mark: Mark) -> None:
    """Replace what `data` holds. What says where the older log ended goes first; `mark` is of this one."""
    for name in (MARK, f"{DATABASE}-wal", f"{DATABASE}-shm"):
        (data / name).unlink(missing_ok=True)
    (folder / DATABASE).replace(data / DATABASE)
    MarkFile(data / MARK, mark).close()
    shutil.rmtree(folder, ignore_errors=True)
    descriptor = os.open(data, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def note_of(node: str, offered: Offered) -> bytes:
    """What the note says about this copy of that node."""
    return msgspec.json.encode(Noted(node, offered))


def _noted(folder: Path) -> Noted | None:
    try:
        return msgspec.json.decode((folder / NOTE).read_bytes(), type=Noted)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
