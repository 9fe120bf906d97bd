"""Opening a directory as one node's replica of an ordered log."""

import functools
from pathlib import Path

import msgspec

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.core.kept import DEFAULT_LIMITS, KeptLimits
from huahuo.eventstore.executor import Executor
from huahuo.eventstore.limits import INT64_MAX
from huahuo.eventstore.replicated.opening import open_replica
from huahuo.eventstore.sequencer.port import Sequencer
from huahuo.eventstore.sqlite.open import SqliteLog


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
    return await open_replica(engine, ambient=ambient, master_key=master_key, sequencer=sequencer, node=node)
