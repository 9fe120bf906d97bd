"""A service as one node of several: its name, its way to the ordered log, and its replica."""

import asyncio
import re
import socket

import structlog

from huahuo.app.config import Settings
from huahuo.app.keys import Keys
from huahuo.build import BUILD
from huahuo.errors import ConfigError
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.core.kept import KeptLimits
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.errors import Unavailable
from huahuo.eventstore.port import Log
from huahuo.eventstore.replicated.writer import ReplicaWriter
from huahuo.eventstore.sequencer.address import BadAddress, LogAddress
from huahuo.eventstore.sequencer.credentials import SignInRefused
from huahuo.eventstore.sequencer.opening import ClientMissing, RemoteSequencer, sequencer_at
from huahuo.eventstore.sequencer.port import Misconfigured, Unreachable
from huahuo.eventstore.sqlite.open import SqliteLog
from huahuo.eventstore.sqlite.replica import held_in, open_log

NODE_FILE = "node.name"
JOIN_S = 5.0
"""How long a start waits until the node has joined. After that it listens, and reads what it has."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_log = structlog.get_logger(__name__)


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


async def open_node(settings: Settings, secrets: Keys, ambient: Ambient, limits: KeptLimits) -> SqliteLog:
    """This node's replica. An empty directory waits until the ordered log answers.

    Raises:
        ConfigError: the address can't be used.
        EventStoreError: the ordered log is another one than the directory's, was made with another master
            key, or may lose what it acknowledges.
    """
    address = address_of(settings)
    assert address is not None
    node = node_name(settings, ambient)
    try:
        sequencer = sequencer_at(address, ambient)
    except ClientMissing as error:
        raise ConfigError(str(error)) from None
    try:
        await _look(sequencer, address, empty=held_in(settings.data) is None)
        return await open_log(
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


def replica_of(log: Log) -> ReplicaWriter | None:
    """The writer of a node's replica; None if the service is alone."""
    writer = log.writer if isinstance(log, StoreLog) else None
    return writer if isinstance(writer, ReplicaWriter) else None


async def joins_soon(replica: ReplicaWriter) -> bool:
    """Whether the node has applied what was ordered before its start, or does within `JOIN_S`.

    Raises:
        ConfigError: it never will.
    """
    try:
        async with asyncio.timeout(JOIN_S):
            await replica.joined()
    except TimeoutError:
        return False
    except Unavailable:
        raise ConfigError(f"this node can't go on: {replica.trouble}") from None
    return True


async def _look(sequencer: RemoteSequencer, address: LogAddress, *, empty: bool) -> None:
    """Ask the ordered log whether it keeps what it acknowledges; show its warnings.

    An `empty` directory waits for its answer; one with a replica goes on without it.

    Raises:
        ConfigError: it may lose commits; or an empty directory is not let in.
    """
    told = ""
    while True:
        try:
            for warning in await sequencer.check():
                _log.warning("ordered_log", log=str(address), warning=warning)
        except Misconfigured as error:
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
        await asyncio.sleep(1.0)


def _tell(error: Exception, told: str) -> str:
    """Log why it waits, once for each reason."""
    if str(error) != told:
        _log.warning("waiting_for_the_ordered_log", reason=str(error))
    return str(error)
