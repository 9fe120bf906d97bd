"""Opening a directory as one node's replica of an ordered log."""

import contextlib
import functools
import sqlite3
from pathlib import Path

import msgspec

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.core.kept import DEFAULT_LIMITS, KeptLimits
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.executor import Executor
from huahuo.eventstore.limits import INT64_MAX
from huahuo.eventstore.replicated.opening import Held, open_replica
from huahuo.eventstore.replicated.shared import load
from huahuo.eventstore.sequencer.port import Sequencer
from huahuo.eventstore.sqlite.meta import get_meta
from huahuo.eventstore.sqlite.open import SqliteLog
from huahuo.eventstore.sqlite.passed import SHARED_KEY
from huahuo.eventstore.sqlite.schema import DATABASE


async def open_log(
    directory: Path,
    *,
    ambient: Ambient,
    master_key: bytes,
    build: str,
    sequencer: Sequencer,
    node: str,
    limits: KeptLimits = DEFAULT_LIMITS,
    writer: Executor | None = None,
) -> SqliteLog:
    """The replica of `node` in `directory`, created if necessary. Raises as `open_replica`.

    Command records are forgotten by their age alone: which of them exist decides appends, so a bound on
    their number would have to strike every replica at one moment.
    """
    unbounded = msgspec.structs.replace(
        limits, command_records_per_user=INT64_MAX, command_records_max=INT64_MAX
    )
    engine = functools.partial(
        SqliteLog.open, directory,
        ambient=ambient, master_key=master_key, build=build, limits=unbounded, writer=writer,
    )  # fmt: skip
    return await open_replica(
        engine, ambient=ambient, master_key=master_key, sequencer=sequencer, node=node,
        held=held_in(directory),
    )  # fmt: skip


def held_in(directory: Path) -> Held | None:
    """The replica in `directory`, None if there is none.

    Raises:
        EventStoreError: the files can't be read, or are the log of a single service.
    """
    path = directory / DATABASE
    if not path.is_file():
        return None
    try:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            shared, log_id = get_meta(connection, SHARED_KEY), get_meta(connection, "log")
            used = connection.execute("SELECT 1 FROM event LIMIT 1").fetchone()
    except sqlite3.Error as error:
        raise EventStoreError(f"{path} can't be read: {error}") from error
    if shared is None and used:
        raise EventStoreError(
            f"{directory} holds the log of a single service, with events that no other node has:"
            " give this node an empty --data"
        )
    if shared is None or log_id is None:
        return None
    return Held(log_id.decode(), load(shared).offset)
