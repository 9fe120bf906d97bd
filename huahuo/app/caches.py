"""What an idle service lets go of: frames for others at the same place, recent events, pages of the database.

All are made or read again when somebody asks for them. After a storm of publications they are most of what
memory holds, and each block of the allocator that still has one of them stays in memory whole.
"""

import asyncio
import contextlib
from collections.abc import Callable

from huahuo.app.memory import release_free
from huahuo.app.wiring import App
from huahuo.eventstore.sqlite.open import SqliteLog


def letting_go(app: App) -> Callable[[], None]:
    """What the tidier calls when the loop is idle."""
    freeing: set[asyncio.Task[None]] = set()

    async def free(log: SqliteLog) -> None:
        with contextlib.suppress(RuntimeError):  # the log closes, and its pages go with it
            await log.forget_pages()
        release_free()

    def let_go() -> None:
        app.server.frames.clear()
        app.feed.let_go()
        if isinstance(app.log, SqliteLog):
            task = asyncio.get_running_loop().create_task(free(app.log), name="forget pages")
            freeing.add(task)
            task.add_done_callback(freeing.discard)

    return let_go
