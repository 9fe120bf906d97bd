"""What plug-ins and clients stand on: files and keys of a directory, the log, entities, time, threads.

* The files are looked at before a start: a directory, a disk that is not mounted or a file of another
  user would fail deep inside SQLite, and a log on a disk that is not mounted would look like one that
  lost everything.
* The log keeps a mark of the token key, made with the master key, so that the mark alone tells nothing
  about it: under another token key every older token is refused.
* The file of the master key is written again if deleted, reported if replaced: this process may have the
  last copy (ADR 26).
* `World` is what a simulation replaces: the log, the threads and DNS. Production uses `REAL`.
* `Fairness` charges the time of commits, reads, decisions and plug-ins to the users they are for. What
  the service appends while plug-ins work for users is charged to these users; what else it does for
  itself is nobody's.
"""

import asyncio
import errno
import os
import stat
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final

import msgspec
import structlog

from huahuo.actors.plugins.calls import UserId
from huahuo.actors.plugins.plugin import Gauges, Host, Plugin
from huahuo.actors.plugins.resolver import Names, Resolver
from huahuo.app import credentials
from huahuo.app.config import Settings
from huahuo.app.credentials import JWT_FILE, MASTER_FILE, Keys, ensure_keys, files_of, write_key
from huahuo.app.nodes import open_node
from huahuo.app.process import Parts
from huahuo.app.service_port import SERVICE_FILE, WaitingRoom
from huahuo.build import BUILD
from huahuo.errors import ConfigError, HuahuoError, copied_again, ways_on
from huahuo.eventstore.ambient import Ambient, rfc3339
from huahuo.eventstore.audit.index import DATABASE as AUDIT
from huahuo.eventstore.core.command_records import KeptLimits
from huahuo.eventstore.core.seal import derive
from huahuo.eventstore.errors import Damaged, EventStoreError, WrongKey
from huahuo.eventstore.executor import Executor, FairExecutor, ThreadExecutor
from huahuo.eventstore.port import Log
from huahuo.eventstore.sqlite.directory_lock import LOCK
from huahuo.eventstore.sqlite.log import SqliteLog
from huahuo.eventstore.sqlite.mark import MARK
from huahuo.eventstore.sqlite.schema import DATABASE
from huahuo.eventstore.sqlite.view import read_single
from huahuo.storage.room import FreeBytes, free_of
from huahuo.transport.load.fair_queueing import Turns

_USER = "user/"
_SERVICE = "service"


class Fairness:
    """See the module. All methods belong to the loop's thread."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.at_work: list[Callable[[], Collection[tuple[UserId, int]]]] = []
        """Of each plug-in: users, and how many pieces of work run for each."""

    def may_go(self, principal: str) -> bool:
        """See `huahuo.actors.entities.entity.Fairness`."""
        return self._turns.may_go(principal)

    async def paid(self, principal: str) -> None:
        """See `huahuo.actors.entities.entity.Fairness`."""
        await self._turns.paid(principal)

    def charge(self, principal: str, spent_s: float) -> None:
        """See `huahuo.actors.entities.entity.Fairness`."""
        if principal.startswith(_USER):
            self._turns.charge(principal, spent_s)
        elif principal == _SERVICE:
            work = [one for at_work in self.at_work for one in at_work()]
            running = sum(count for _, count in work)
            for user_id, count in work:
                self._turns.charge(f"{_USER}{user_id}", spent_s * count / running)

    def wait_s(self, user_id: UserId) -> float:
        """How long work for this user should wait before it begins."""
        turns = self._turns
        return turns.wait_s(f"{_USER}{user_id}")


_OF_DATABASE: Final = ("", "-wal", "-shm", "-journal")
_OWN_MODE: Final = 0o600
_OWN_MODE_DIRECTORY: Final = 0o700
_READABLE, _WRITABLE = os.R_OK, os.R_OK | os.W_OK


def keys_of_directory(settings: Settings, ambient: Ambient, plugins: Iterable[Plugin]) -> Keys:
    """The keys, which are made if the directory is new.

    Raises:
        ConfigError: as `ensure`, or as `must_be_files`.
    """
    must_be_files(settings, [file for one in plugins for file in one.projections.values()])
    return ensure_keys(settings, ambient)


def must_be_files(settings: Settings, made_again: Iterable[str]) -> None:
    """Look at the directory and all its files. Those named `made_again` are made from the log if missing.

    Raises:
        ConfigError: one is none, or this user may not use it. The text says which and what to do.
    """
    data = settings.data
    for name in files_of(settings):
        _must_be_file(data / name, _READABLE, "put the key that belongs to this directory there")
    log = "put the file of the log back there, or restore a backup into a new directory (huahuo restore)"
    for name in (DATABASE, f"{DATABASE}-wal"):
        _must_be_file(data / name, _WRITABLE, log)
    own = "the service makes it again"
    for name in (f"{DATABASE}-shm", MARK, LOCK):
        _must_be_file(data / name, _WRITABLE, own)
    for name in (
        SERVICE_FILE,
        *(f"{name}{suffix}" for name in (AUDIT, *made_again) for suffix in _OF_DATABASE),
    ):
        _must_be_file(data / name, _WRITABLE, own, links_are_made=True)
    if data.is_dir() and not os.access(data, _WRITABLE | os.X_OK):
        raise ConfigError(
            f"this user ({os.geteuid()}) may not write in {data}: {_usable_by(data, data.stat())}"
        )


def _must_be_file(path: Path, mode: int, way: str, *, links_are_made: bool = False) -> None:
    try:
        found = path.stat()
    except FileNotFoundError:
        if path.is_symlink() and not links_are_made:
            raise ConfigError(
                f"{path} is a link to {path.readlink()}, and there is nothing: if that is on another disk,"
                f" mount it; else remove the link, and {way}"
            ) from None
        return
    except NotADirectoryError:
        return  # `data` itself is none, which the start says
    except PermissionError:
        where = path.readlink() if os.path.islink(path) else path  # noqa: PTH114  False if it may not be asked
        raise ConfigError(
            f"this user ({os.geteuid()}) may not enter the directory of {where}: start as its owner,"
            " or choose another --data"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be looked at: {error.strerror}. Move it away, and {way}") from None
    if not stat.S_ISREG(found.st_mode):
        kind = "a directory" if stat.S_ISDIR(found.st_mode) else "not a regular file"
        raise ConfigError(f"{path} is {kind}, and a file belongs there: move it away, and {way}")
    if not os.access(path, mode):
        what = "read" if mode == _READABLE else "read and written"
        raise ConfigError(f"{path} cannot be {what} by this user ({os.geteuid()}): {_usable_by(path, found)}")


def _usable_by(path: Path, found: os.stat_result) -> str:
    is_directory = stat.S_ISDIR(found.st_mode)
    mode = _OWN_MODE_DIRECTORY if is_directory else _OWN_MODE
    if os.geteuid() not in (0, found.st_uid):
        whole = path if is_directory else path.parent
        return f"start as user {found.st_uid}, or give all files of {whole} to this user"
    if found.st_mode & mode == mode:
        return "its disk can only be read. Mount it for writing, or choose another --data"
    return f"chmod {mode:o} {path}"


NOTED_KEY_ROW: Final = "token_key"
"""In the log's table of single values."""
_TOLD_MS: Final = 30 * 86_400_000
"""A change is told for as long, or until the former key is back or among the previous ones."""
_MARK_BYTES: Final = 8
_WAY: Final = (
    f"put the former key back into {JWT_FILE} or HUAHUO_JWT_SECRET; or, if you changed it on purpose, name"
    " the former one in HUAHUO_JWT_SECRETS_PREVIOUS until its tokens have expired"
)

_log = structlog.get_logger(__name__)


class NotedTokenKey(msgspec.Struct, frozen=True):
    """The mark of the key at the last start, and of the one before it with the time of the change."""

    mark: str
    former: str = ""
    since_ms: int = 0


def following(noted: NotedTokenKey | None, secrets: Keys, now_ms: int) -> NotedTokenKey:
    """What to note at a start. Pure."""
    mark, previous = _mark(secrets, secrets.jwt_secret), _previous(secrets)
    if noted is None or noted.former == mark or noted.mark in previous:
        return NotedTokenKey(mark)
    if noted.mark == mark:
        return NotedTokenKey(mark) if noted.former in previous else noted
    return NotedTokenKey(mark, noted.mark, now_ms)


def token_key_sentence(noted: NotedTokenKey | None, secrets: Keys, now_ms: int) -> str:
    """What is to be told of a changed key, "" if nothing is. Pure."""
    told = following(noted, secrets, now_ms)
    if not told.former or told.former in _previous(secrets) or now_ms - told.since_ms > _TOLD_MS:
        return ""
    when = "since the last start" if noted != told else f"on {rfc3339(told.since_ms)}"
    return f"the token key was changed {when}: every token that was signed before is refused; {_WAY}"


async def note_token_key(log: SqliteLog, secrets: Keys, ambient: Ambient) -> None:
    """Compare the key with that of the last start, tell it if it is another one, and note it."""
    now_ms = ambient.now_ms()
    try:
        noted = _decoded(await log.single(NOTED_KEY_ROW))
        if told := token_key_sentence(noted, secrets, now_ms):
            _log.error("token_key_changed", told=told)
        new = following(noted, secrets, now_ms)
        if new != noted:
            await log.put_single(NOTED_KEY_ROW, msgspec.json.encode(new))
    except EventStoreError as error:
        _log.warning("token_key_not_noted", error=str(error))


def token_key_of_file(path: Path, secrets: Keys, now_ms: int) -> str:
    """As `sentence`, of a log whose database is `path`, also while a service runs on it."""
    return token_key_sentence(_decoded(read_single(path, NOTED_KEY_ROW)), secrets, now_ms)


def _decoded(value: bytes | None) -> NotedTokenKey | None:
    return None if value is None else msgspec.json.decode(value, type=NotedTokenKey)


def _previous(secrets: Keys) -> set[str]:
    return {_mark(secrets, secret) for secret in secrets.previous}


def _mark(secrets: Keys, secret: bytes) -> str:
    return blake2b(secret, key=derive(secrets.master_key, "token key"), digest_size=_MARK_BYTES).hexdigest()


_JOB_THREADS: Final = 2
"""For parsing texts of clients and plug-ins. More threads would only compete for the interpreter lock."""

type OpenLog = Callable[[Settings, credentials.Keys, Ambient, WaitingRoom], Awaitable[Log]]


async def open_sqlite(
    settings: Settings, secrets: credentials.Keys, ambient: Ambient, room: WaitingRoom
) -> Log:
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
        self, settings: Settings, secrets: credentials.Keys, ambient: Ambient, room: WaitingRoom, parts: Parts
    ) -> Log:
        """The service's log, which `parts` closes. Raises HuahuoError if it cannot be opened."""
        try:
            log = await self.open_log(settings, secrets, ambient, room)
        except Damaged as error:
            raise HuahuoError(f"{error}; {_way_on(settings)}") from error
        except WrongKey as error:
            raise HuahuoError(f"{error}: {credentials.OWN_KEY}") from error
        except EventStoreError as error:
            raise HuahuoError(str(error)) from error
        parts.add("log", lambda: _close(log))
        if isinstance(log, SqliteLog):
            if not settings.log:  # nodes compare theirs with one another
                await note_token_key(log, secrets, ambient)
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


KEY_FILE_LOOK_S: Final = 5.0
_BYTES_MAX: Final = 4096
_NO_DESCRIPTOR: Final = (errno.EMFILE, errno.ENFILE)
_LOST: Final = (
    "This process has the key in memory only: keep it running until the former file is back."
    " Without it the log cannot be opened, and no stored password can be read"
)


class KeyFile:
    """A file that is gone is written again; a replaced one is only reported."""

    def __init__(self, data: Path, key: bytes, executor: Executor) -> None:
        """`executor`: a thread, because a network's file system may not answer at once."""
        self._path = data / MASTER_FILE
        self._key = key
        self._executor = executor
        self._told: str | None = None

    def show(self, metrics: Gauges) -> None:
        """Tell the metrics whether a restart would need a key that is in no file."""
        metrics.gauge(
            "master_key_lost",
            "1 while the file of the master key is gone or another one.",
            lambda: self._told is not None,
        )

    def sentence(self) -> str | None:
        """What `/readyz` adds while the file is not the key in use."""
        return self._told

    async def look(self) -> None:
        """Look now."""
        told, written = await self._executor.run(self._looked)
        if written:
            _log.error("master_key_gone", file=str(self._path), done="written again, from memory")
        if told != self._told:
            if told is None:
                _log.info("master_key_is_back", file=str(self._path))
            else:
                _log.error("master_key_lost", told=told)
        self._told = told

    def _looked(self) -> tuple[str | None, bool]:
        """What is wrong now, None if nothing is, and whether the file was written again."""
        try:
            return self._compared()
        except OSError as error:
            if error.errno in _NO_DESCRIPTOR:  # that says nothing of the file
                return self._told, False
            return f"{self._path} cannot be read any more: {error.strerror}. {_LOST}", False

    def _compared(self) -> tuple[str | None, bool]:
        """As `_looked`. Raises OSError: the file cannot be read."""
        path = self._path
        try:
            with path.open("rb") as file:
                text = file.read(_BYTES_MAX)
        except FileNotFoundError:
            try:
                write_key(path, self._key.hex())
            except OSError as error:
                if error.errno in _NO_DESCRIPTOR:
                    raise
                return f"{path} is gone and cannot be written again: {error.strerror}. {_LOST}", False
            return None, True
        if _key_of(text) == self._key:
            return None, False
        return f"{path} was replaced by another key. {_LOST}", False

    async def run(self) -> None:
        """Look every five seconds."""
        while True:
            await asyncio.sleep(KEY_FILE_LOOK_S)
            await self.look()


def keep_key(settings: Settings, key: bytes, host: Host, parts: Parts) -> Callable[[], str | None]:
    """Look after the file from now on, if the key is from a file. Returns what `/readyz` adds."""
    file = KeyFile(settings.data, key, host.executor)
    file.show(host.metrics)
    if isinstance(host.log, SqliteLog) and not settings.master_key:
        parts.run("master key", file.run())
    return file.sentence


def _key_of(text: bytes) -> bytes:
    try:
        return bytes.fromhex(text.decode().strip())
    except ValueError:
        return b""
