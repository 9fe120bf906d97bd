"""What a simulation replaces: the log, the threads and DNS. Production uses `REAL`."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from huahuo.actors.outside.names import Names, Resolver
from huahuo.app import keys, token_key
from huahuo.app.config import Settings
from huahuo.app.nodes import open_node
from huahuo.app.stopping import Parts
from huahuo.app.waiting_room import WaitingRoom
from huahuo.build import BUILD
from huahuo.errors import HuahuoError, copied_again, ways_on
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.core.fair_executor import FairExecutor
from huahuo.eventstore.core.kept import KeptLimits
from huahuo.eventstore.errors import Damaged, EventStoreError, WrongKey
from huahuo.eventstore.executor import Executor, ThreadExecutor
from huahuo.eventstore.port import Log
from huahuo.eventstore.sqlite.open import SqliteLog
from huahuo.storage.looking import FreeBytes, free_of

_JOB_THREADS: Final = 2
"""For parsing texts of clients and plug-ins. More threads would only compete for the interpreter lock."""

type OpenLog = Callable[[Settings, keys.Keys, Ambient, WaitingRoom], Awaitable[Log]]


async def open_sqlite(settings: Settings, secrets: keys.Keys, ambient: Ambient, room: WaitingRoom) -> Log:
    """The log of a data directory, or its replica of the log that several nodes share.

    `room`: has the port while a node can't serve yet.

    Raises:
        EventStoreError: as `SqliteLog.open`, or as `open_node`.
    """
    limits = KeptLimits(
        command_records_per_user=settings.command_records_per_user,
        ack_clients_per_user=settings.ack_clients_per_user,
    )
    if settings.log:
        return await open_node(settings, secrets, ambient, limits, room)
    return await SqliteLog.open(
        settings.data, ambient=ambient, master_key=secrets.master_key, build=BUILD, limits=limits
    )


@dataclass(frozen=True, kw_only=True)
class World:
    """The parts of the outside world that a simulation replaces."""

    open_log: OpenLog = open_sqlite
    make_executor: Callable[[], Executor] = lambda: ThreadExecutor(_JOB_THREADS, "jobs")
    make_looker: Callable[[], Executor] = lambda: ThreadExecutor(1, "log-look")
    """For the look at the log's rows after the start, which may take minutes."""
    resolver: Callable[[], Resolver] = Names
    """Makes what gives the addresses of names that users choose."""
    free_bytes: Callable[[Path], FreeBytes] = free_of
    """The probe of the free space of a data directory. A log in memory is not probed."""
    publish_address: bool = True
    """Whether to write `service.json`, by which other commands find the running service."""

    async def open(
        self, settings: Settings, secrets: keys.Keys, ambient: Ambient, room: WaitingRoom, parts: Parts
    ) -> Log:
        """The service's log, which `parts` closes. Raises HuahuoError if it cannot be opened."""
        try:
            log = await self.open_log(settings, secrets, ambient, room)
        except Damaged as error:
            raise HuahuoError(f"{error}; {_way_on(settings)}") from error
        except WrongKey as error:
            raise HuahuoError(f"{error}: {keys.OWN_KEY}") from error
        except EventStoreError as error:
            raise HuahuoError(str(error)) from error
        parts.add("log", lambda: _close(log))
        if isinstance(log, SqliteLog):
            if not settings.log:  # nodes compare theirs with one another
                await token_key.note(log, secrets, ambient)
            parts.add("look at the rows", log.look_over(self.make_looker()).stop)
        return log

    def executor(self, settings: Settings, parts: Parts) -> FairExecutor:
        """The threads for parsing, shared fairly by the users."""
        executor = FairExecutor(
            self.make_executor(),
            at_once=2 * _JOB_THREADS,
            waiting_per_user_max=settings.jobs_waiting_per_user,
            waiting_max=settings.jobs_waiting_max,
        )
        parts.add("jobs", lambda: executor.close(wait=False))
        return executor


def _way_on(settings: Settings) -> str:
    return copied_again(settings.data) if settings.log else ways_on(settings.data)


REAL: Final = World()
"""The world of a service that is no simulation."""


async def _close(log: Log) -> None:
    """Raises HuahuoError if the log could not be closed cleanly, for example because its files are gone."""
    try:
        await log.close()
    except EventStoreError as error:
        raise HuahuoError(str(error)) from error
