"""The log of a world: a faulty one of its own, or the replica of one node among several."""

from functools import partial

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.executor import Executor
from huahuo.eventstore.memory import ModelDisk
from huahuo.eventstore.replicated.opening import open_replica
from huahuo.eventstore.replicated.writer import ReplicaWriter
from tests.support.models.faulty_log import FaultyLog, StepExecutor
from tests.support.models.memory_sequencer import MemoryOrder, MemorySequencer


async def opened_log(
    disk: ModelDisk, ambient: Ambient, order: MemoryOrder | None, node: str, executor: Executor | None = None
) -> FaultyLog:
    """Open the log on `disk`, by default with a `StepExecutor`.

    With an order, it is the replica of `node`, which has then joined.
    """
    engine = partial(
        FaultyLog.open, disk,
        ambient=ambient, master_key=bytes(32), build="test", executor=executor or StepExecutor(),
    )  # fmt: skip
    if order is None:
        return await engine()
    log: FaultyLog = await open_replica(
        engine, ambient=ambient, master_key=bytes(32), sequencer=MemorySequencer(order), node=node
    )
    assert isinstance(log.writer, ReplicaWriter)
    await log.writer.joined()
    return log
