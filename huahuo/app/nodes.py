"""A service as one node of several: its name, its replica, how it joins, and the way to the ordered log.

A node that is new, or was away for longer than the ordered log keeps, joins by a copy of another node's
replica. An empty directory can also follow from the first proposal, if the ordered log still has it: that
is slower, and the way for short logs and where no other node lives.
"""

import asyncio
import re
import socket
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Final

import structlog

from huahuo.app.config import Settings
from huahuo.app.credentials import Keys
from huahuo.app.service_port import WaitingRoom
from huahuo.build import BUILD
from huahuo.cluster import members, request_signing
from huahuo.cluster.node_requests import Asker
from huahuo.cluster.replica_copies import NoCopy, fetch_copy
from huahuo.errors import ConfigError, copied_again
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.core.command_records import KeptLimits
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.core.seal import derive
from huahuo.eventstore.deadline import cancel_all
from huahuo.eventstore.errors import Unavailable
from huahuo.eventstore.port import Log
from huahuo.eventstore.replicated.opening import HELD_S, Held, find_beginning
from huahuo.eventstore.replicated.order_reader import must_go_on
from huahuo.eventstore.replicated.proposal import Codec
from huahuo.eventstore.replicated.writer import ReplicaWriter
from huahuo.eventstore.sequencer.address import BadAddress, FileUnusable, LogAddress, SignInRefused
from huahuo.eventstore.sequencer.opening import ClientMissing, RemoteSequencer, sequencer_at
from huahuo.eventstore.sequencer.port import Misconfigured, Sequencer, Trimmed, Unreachable
from huahuo.eventstore.sqlite.log import SqliteLog, held_in, is_replica, open_log
from huahuo.replay.feed import CatchUp
from huahuo.transport.access.claims import Latest, among_nodes, issued_among, own_clock
from huahuo.transport.commands.gate import Settle

COPY_FROM: Final = 1_000
"""Proposals from which on a copy is faster than following."""
AGAIN_S: Final = 2.0
TELL_S: Final = 0.25


async def join(
    settings: Settings, secrets: Keys, ambient: Ambient, sequencer: Sequencer, node: str, room: WaitingRoom
) -> None:
    """Bring a copy into the directory if it needs one, or is better off with one.

    Where nothing but a copy helps, it waits until a node gives one; the `room` says so meanwhile.

    Raises:
        EventStoreError: the ordered log is of another key or a newer version; the directory is in use.
        SequencerError: as `Sequencer.follow`.
    """
    held = held_in(settings.data)
    if held is None:
        beginning = await find_beginning(sequencer, secrets.master_key, ambient)
        log_id, must, first = beginning.birth.log_id, not beginning.is_whole, beginning.first
        if not must and beginning.last < COPY_FROM:
            return
    elif first := await _trimmed_to(sequencer, held):
        log_id, must = held.log_id, True
        try:
            await must_go_on(sequencer, derive(secrets.master_key, "proposals"), log_id, held.offset)
        except Misconfigured as error:
            raise ConfigError(str(error)) from None
        except Unreachable:
            pass  # the nodes that give copies are of one log by their keys
    else:
        return
    asker = Asker(
        secret=derive(secrets.master_key, request_signing.PURPOSE), node=node, log_id=log_id, ambient=ambient
    )
    codec = Codec(derive(secrets.master_key, "proposals"), log_id)
    await room.open()
    while True:
        room.tell("this node looks for another one that gives it a copy")
        living = await members.living_nodes(sequencer, codec, await _last(sequencer), node)
        try:
            giver = await fetch_copy(settings.data, living, asker, log_id, room.tell, first)
        except NoCopy as error:
            if not must:
                _log.warning("follows_from_the_beginning", reason=str(error))
                return
            room.tell(f"this node needs a copy of another one, and gets none: {error}")
            await asyncio.sleep(AGAIN_S)
        else:
            _log.info("joined_by_copy", node=giver)
            room.tell(f"this node opens the copy that {giver} gave")
            copy = held_in(settings.data)
            first = 0 if copy is None else await _trimmed_to(sequencer, copy)
            if not first:
                return
            must = True  # the log was trimmed meanwhile


async def follow(replica: ReplicaWriter, room: WaitingRoom) -> None:
    """Wait until a replica that began empty has applied what was ordered: it has nothing to serve before.

    Raises:
        ConfigError: it never will.
    """
    joining = asyncio.ensure_future(replica.joined())
    try:
        while not joining.done():
            await asyncio.wait((joining,), timeout=TELL_S)
            if replica.trouble:
                room.tell(replica.trouble)
        joining.result()
    except Unavailable as why:
        raise ConfigError(f"this node can't go on: {why}") from None
    finally:
        await cancel_all([joining], 1.0)


async def _trimmed_to(sequencer: Sequencer, held: Held) -> int:
    """The oldest proposal that the ordered log keeps, if it has lost what this directory needs next; else 0.

    Without an answer it has not.
    """
    try:
        async with asyncio.timeout(HELD_S):
            if await sequencer.last() <= held.offset:
                return 0
            ordered = sequencer.follow(held.offset)
            try:
                await anext(ordered)
            finally:
                await ordered.aclose()
    except Trimmed as error:
        return error.first
    except (Unreachable, TimeoutError):
        pass
    return 0


async def _last(sequencer: Sequencer) -> int:
    while True:
        try:
            return await sequencer.last()
        except Unreachable:
            await asyncio.sleep(AGAIN_S)


def address_of(settings: Settings) -> LogAddress | None:
    """The ordered log of the settings; None for a single service.

    Raises:
        ConfigError: the address can't be read.
    """
    if not settings.log:
        return None
    try:
        return LogAddress(settings.log)
    except BadAddress as error:
        raise ConfigError(f"log: {error}") from None


async def sequencer_of(
    settings: Settings, address: LogAddress, ambient: Ambient, tell: Callable[[str], None] = lambda _: None
) -> RemoteSequencer:
    """The way to the ordered log, once it said that it keeps what it acknowledges. Raises ConfigError.

    `tell` hears why it waits.
    """
    try:
        sequencer = sequencer_at(address, ambient)
    except ClientMissing as error:
        raise ConfigError(str(error)) from None
    try:
        await _look(sequencer, address, tell, empty=not is_replica(settings.data))
    except BaseException:
        await sequencer.close()
        raise
    return sequencer


async def _look(
    sequencer: RemoteSequencer, address: LogAddress, tell: Callable[[str], None], *, empty: bool
) -> None:
    """Ask the ordered log whether it keeps what it acknowledges; show its warnings.

    An `empty` directory waits for its answer; one with a replica goes on without it.

    Raises:
        ConfigError: it may lose commits; a file can't be used; an empty directory is not let in.
    """
    told = ""
    while True:
        try:
            for warning in await sequencer.check():
                _log.warning("ordered_log", log=str(address), warning=warning)
        except (Misconfigured, FileUnusable) as error:
            raise ConfigError(f"{address}: {error}") from None
        except SignInRefused as error:
            if empty:
                raise ConfigError(f"{address}: {error}") from None
            told = _tell(error, told)
        except Unreachable as error:
            told = _tell(error, told)
        else:
            return
        if not empty:
            return
        tell(f"this node waits for the ordered log: {told}")
        await asyncio.sleep(1.0)


def _tell(error: Exception, told: str) -> str:
    """Log why it waits, once for each reason."""
    if str(error) != told:
        _log.warning("waiting_for_the_ordered_log", reason=str(error))
    return str(error)


NODE_FILE = "node.name"
DIFFERED_FILE = "node.differs"
"""Why this directory is not to be believed. While it is there, no node starts on it."""
CATCH_UP_S = 2.0
"""How long a client that is ahead of this node waits for it; then it is sent elsewhere."""
JOIN_S = 5.0
"""How long a start waits until the node has joined. After that it listens, and reads what it has."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_log = structlog.get_logger(__name__)


def node_name(settings: Settings, ambient: Ambient) -> str:
    """The name of the setting; else that of the directory, which is made once.

    Raises:
        ConfigError: it is no name, or can't be kept.
    """
    path = settings.data / NODE_FILE
    try:
        name = settings.node or (path.read_text(encoding="ascii").strip() if path.is_file() else "")
        if not name:
            host = re.sub(r"[^A-Za-z0-9_-]+", "-", socket.gethostname()).strip("-")[:40]
            name = f"{host or 'node'}-{ambient.token(3)}"
            settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.write_text(f"{name}\n", encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the node's name can't be kept in {path}: {error}") from None
    if not _NAME.fullmatch(name):
        raise ConfigError(f"not the name of a node: {name!r}; use at most 64 letters, digits, `-` and `_`")
    return name


async def open_node(
    settings: Settings, secrets: Keys, ambient: Ambient, limits: KeptLimits, room: WaitingRoom
) -> SqliteLog:
    """This node's replica. An empty directory waits until the ordered log answers; the `room` says so.

    Raises:
        ConfigError: the address can't be used.
        EventStoreError: the ordered log is another one than the directory's, was made with another master
            key, or may lose what it acknowledges.
    """
    address = address_of(settings)
    assert address is not None
    node = node_name(settings, ambient)
    differed = settings.data / DIFFERED_FILE
    if differed.exists():
        raise ConfigError(f"{differed.read_text(encoding='utf-8').strip()}; {copied_again(settings.data)}")
    empty = held_in(settings.data) is None
    if empty:
        await room.open()
    sequencer = await sequencer_of(settings, address, ambient, room.tell)
    try:
        await join(settings, secrets, ambient, sequencer, node, room)
        begins = empty and not is_replica(settings.data)
        log = await open_log(
            settings.data,
            ambient=ambient,
            master_key=secrets.master_key,
            build=BUILD,
            sequencer=sequencer,
            node=node,
            limits=limits,
        )
    except BaseException:
        await sequencer.close()
        raise
    replica = log.writer
    assert isinstance(replica, ReplicaWriter)
    replica.differed = lambda reason: _note(differed, reason)
    if begins:
        try:
            await follow(replica, room)
        except BaseException:
            await log.close()
            raise
    return log


def _note(path: Path, reason: str) -> None:
    """Keep over a restart that this directory is not to be believed."""
    try:
        path.write_text(f"{reason}\n", encoding="utf-8")
    except OSError as error:
        _log.error("not_noted", reason=error.strerror, file=str(path))


def replica_of(log: Log) -> ReplicaWriter | None:
    """The writer of a node's replica; None if the service is alone."""
    writer = log.writer if isinstance(log, StoreLog) else None
    return writer if isinstance(writer, ReplicaWriter) else None


def latest_of(log: Log) -> Latest:
    """What time it is for tokens and revocations: see `common_time`."""
    replica = replica_of(log)
    if replica is None:
        return own_clock
    return among_nodes(lambda: replica.shared.time_ms, replica.clocks.others_ms)


def issued_of(log: Log, latest_ms: Latest) -> Latest:
    """Of when is what this service issues: see `common_time`."""
    replica = replica_of(log)
    return latest_ms if replica is None else issued_among(latest_ms, replica.clocks.earliest_ms)


async def joins_soon(replica: ReplicaWriter) -> bool:
    """Whether the node has applied what was ordered before its start, or does within `JOIN_S`.

    An ordered log that can't be reached is not waited for.

    Raises:
        ConfigError: it never will.
    """
    joining = asyncio.create_task(replica.joined(), name="joining soon")
    away = asyncio.create_task(replica.went_away.wait(), name="the ordered log is away")
    try:
        await asyncio.wait((joining, away), timeout=JOIN_S, return_when=asyncio.FIRST_COMPLETED)
        if not joining.done():
            return False
        joining.result()
    except Unavailable as why:
        raise ConfigError(f"this node can't go on: {why}") from None
    finally:
        await cancel_all([joining, away], 1.0)
    return True


def settle_of(log: Log) -> Settle | None:
    """How to wait for all that was ordered until now; None if no other node writes the log."""
    replica = replica_of(log)
    if replica is None:
        return None

    async def settle() -> bool:
        try:
            async with asyncio.timeout(CATCH_UP_S):
                await replica.applied(await replica.newest.ask())
        except (TimeoutError, Unavailable):
            return False
        return True

    return settle


def catch_up_of(log: Log) -> CatchUp | None:
    """How to wait for what a client has seen on another node; None if there is no other one."""
    settle = settle_of(log)
    if settle is None:
        return None

    async def catch_up(places: Sequence[tuple[str, int]]) -> bool:
        return all(seq <= log.head(stream).seq for stream, seq in places) or await settle()

    return catch_up


def reachable(url: str) -> str:
    """A node that listens on all addresses is announced by the name of its machine."""
    for anywhere in ("//0.0.0.0:", "//[::]:"):
        url = url.replace(anywhere, f"//{socket.gethostname()}:")
    return url


def mark_of(secret: bytes) -> str:
    """Shows whether two nodes have one token key, and nothing else of it."""
    return blake2b(secret, digest_size=8, person=b"huahuo node keys"[:16]).hexdigest()
