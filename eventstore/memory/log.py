"""The in-memory engine: the whole log in dictionaries, over a `ModelDisk` of group records.

It keeps the same promises as the SQLite engine, crashes included, and opens fast enough for a test or a
simulated world to open it a thousand times. It is not for production.
"""

from typing import Self

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.core.seal import Vault
from huahuo.eventstore.core.writer import Writer, WriterOf
from huahuo.eventstore.executor import Executor, InlineExecutor
from huahuo.eventstore.memory.model_disk import ModelDisk
from huahuo.eventstore.memory.store import open_store


class MemoryLog(StoreLog):
    """A `Log` in memory. A crash takes this object; its disk survives."""

    @classmethod
    async def open(
        cls,
        disk: ModelDisk,
        *,
        ambient: Ambient,
        master_key: bytes,
        build: str,
        executor: Executor | None = None,
        writer_of: WriterOf = Writer,
        log_id: str = "",
    ) -> Self:
        """Open the log on `disk`, and create it if the disk is empty. The caller closes its own `executor`.

        `log_id`: of a log that is created ("": one by chance).

        Raises:
            InUse: it is open already. WrongKey: it was made with another master key.
            Damaged: its history is not what was written.
        """
        vault = Vault(master_key, ambient)
        runner = executor or InlineExecutor()
        store, loaded = await runner.run(lambda: open_store(disk, ambient, vault, log_id))
        return cls(
            store, store, loaded, vault=vault, ambient=ambient, build=build,
            writer=runner, readers=runner, writer_of=writer_of,
        )  # fmt: skip
