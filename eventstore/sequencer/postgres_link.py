"""Connections to the PostgreSQL primary that holds an ordered log, each checked before it is used.

`Links` follows whichever server is the primary. A primary may be replaced while it says nothing, since it
is frozen or cut off. A promotion raises a server's timeline. So a primary of the same address on a later
timeline than ours has taken its place, and with a synchronous standby it has all that was acknowledged
(`Succession`).

What is wrong with such a log is said in sentences that name what may help.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import asyncpg
import structlog

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.sequencer.address import (
    Host,
    LogAddress,
    SignInRefused,
    detect_dead_peer,
    let_go,
    password_of,
    tls_context,
    tls_refusal,
)
from huahuo.eventstore.sequencer.port import Misconfigured, SequencerError, Unreachable, another_now

LOCK_S = 8
"""A statement that waits longer for the row of the head is refused by the server, and nothing was written.
Less than the time a caller waits (`postgres.ANSWER_S`), so that it gets this clean answer first."""
HEAD_LOST = "the log's table head has lost its row: restore the log, or use another ?name="
OCCUPIED = (
    "the log's table proposals has a row behind the log's end: somebody wrote into its tables;"
    " docs/scaling.md says what to do"
)
TABLES_LOST = "the log's tables are gone from the schema {}: restore the log, and start this node again"

_READ_ONLY = "read-only transaction"
_READ_ONLY_HINT = (
    "default_transaction_read_only is on for the server, the database or the role: see \\drds in psql"
)
_HINTS = (
    ("rejected SSL upgrade", "it speaks no TLS: set ssl = on there, or say ?sslmode=disable"),
    ("no encryption", "?sslmode=verify-full speaks TLS"),
    ("client certificate", "?sslcert=FILE&sslkey=FILE name ours"),
    (_READ_ONLY, _READ_ONLY_HINT),
)
"""What a failed attempt says, and what may help."""
_TLS_ENDED = (ssl.SSLError, ConnectionResetError, asyncpg.ConnectionDoesNotExistError)


def explained(error: BaseException, address: LogAddress) -> str:
    """What a failed attempt to connect says, and what may help."""
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        alone = len(address.hosts) == 1
        return f"it is a standby{f' ({address.kind}://primary,standby/… names both)' if alone else ''}"
    if isinstance(error, TimeoutError):
        return "it does not answer"
    said = first_line(error)
    if address.encrypted and isinstance(error, _TLS_ENDED):
        return tls_refusal(error, address, said)
    hint = next((hint for part, hint in _HINTS if part in said), "")
    return f"{said} ({hint})" if hint else said


def failed(error: BaseException, stuck: str) -> str:
    """What a failed statement says. `stuck`: why an earlier commit may not end, or ""."""
    if isinstance(error, asyncpg.LockNotAvailableError):
        return f"an earlier commit has not ended for {LOCK_S} s" + (f": {stuck}" if stuck else "")
    said = first_line(error)
    return f"{said} ({_READ_ONLY_HINT})" if _READ_ONLY in said else said


def first_line(error: BaseException) -> str:
    """What an error says, without its details."""
    return str(error).partition("\n")[0] or type(error).__name__


CONNECT_S = 5.0
FORMAT = 1
TRANSACTION_TIMEOUT_SINCE = 17_00_00
"""PostgreSQL 17 has the setting."""
LOST = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
)
"""What an ended connection raises. The statement under way may have been committed. `InternalClientError`:
the server died between two messages, and asyncpg no longer knows the connection's state."""
_SIGN_IN = (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError)
_SESSION = {
    "application_name": "huahuo",
    # A time-out that ends a wait for the standby makes a commit visible that a promotion can lose.
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "lock_timeout": f"{LOCK_S}s",
    "default_transaction_isolation": "read committed",
}
_SETTINGS = """
SELECT current_setting('fsync') AS fsync, current_setting('synchronous_commit') AS commit,
       current_setting('synchronous_standby_names') AS standbys, pg_is_in_recovery() AS standby,
       current_setting('server_version_num')::int AS version
"""
TIMELINE = "SELECT ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int"
"""The timeline of a primary: a promotion raises it."""
_TABLES = """
CREATE SCHEMA IF NOT EXISTS {schema};
CREATE TABLE IF NOT EXISTS {schema}.head (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    format integer NOT NULL, log text NOT NULL, first bigint NOT NULL, last bigint NOT NULL
) WITH (fillfactor = 10);
CREATE TABLE IF NOT EXISTS {schema}.proposals (
    position bigint PRIMARY KEY, body bytea NOT NULL
);
ALTER TABLE {schema}.proposals ALTER COLUMN body SET STORAGE EXTERNAL;
"""
"""`fillfactor`: the one row of `head` changes with each commit, within its page. `EXTERNAL`: proposals are
compressed by their proposer."""


class Link:
    """One connection to the primary at `host`. `log`: the log found there, `timeline`: see `TIMELINE`."""

    def __init__(self, connection: Any, host: Host) -> None:
        self.connection = connection
        self.host = host
        self.log = ""
        self.timeline = 0
        self.standbys = False
        """Whether a commit waits for a synchronous standby."""
        self.broken_wait = False
        """A wait for the synchronous standby was ended by somebody: the commit may be on this server only."""
        connection.add_log_listener(self._hear)
        if (transport := getattr(connection, "_transport", None)) is not None:
            detect_dead_peer(transport.get_extra_info("socket"))

    def _hear(self, _connection: object, message: Any) -> None:
        # 01000 is every warning; this one has no code of its own, and its text may be translated.
        if getattr(message, "sqlstate", "") == "01000":
            self.broken_wait = True

    @property
    def stuck(self) -> str:
        """Why a commit may not end; "" if nothing is known."""
        if not self.standbys:
            return ""
        return "PostgreSQL or its synchronous standby may be away: see pg_stat_replication on the primary"

    def drop(self) -> None:
        """End the connection without waiting, and without cancelling what runs on the server."""
        self.connection.terminate()


async def open_link(
    address: LogAddress, password: str, hosts: Sequence[Host], log_id: str, timeline: int = 0
) -> Link:
    """A checked connection to the first of `hosts` that is the primary.

    `log_id` names a log that is made; "": it was there, and none is made in its place.

    `timeline`: a primary on an earlier one was replaced by another.

    Raises:
        Unreachable: none of them answers as a primary.
        SignInRefused: none does, and one does not let us in.
        FileUnusable: a file that the address names can't be used.
        Misconfigured: the server may lose what it acknowledged.
    """
    reasons: list[SequencerError] = []
    for host in hosts:
        try:
            return await _open(address, password, host, log_id, timeline)
        except SignInRefused as error:
            reasons.append(error)
        except (*LOST, asyncpg.PostgresError, TimeoutError) as error:
            reasons.append(Unreachable(f"{host}: {explained(error, address)}"))
    if refused := next((reason for reason in reasons if isinstance(reason, SignInRefused)), None):
        raise refused
    raise Unreachable(f"no primary answers at {address}: {'; '.join(map(str, reasons))}")


class _Loop:
    """The running loop, for asyncpg as it connects: what a refused attempt opened can be closed.

    asyncpg leaves a TLS connection that is refused to its closing handshake, for which nobody waits.
    """

    def __init__(self) -> None:
        self.running = asyncio.get_running_loop()
        self._opened: list[asyncio.Transport] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.running, name)

    async def create_connection(self, *args: Any, **options: Any) -> Any:
        made = await self.running.create_connection(*args, **options)
        self._opened.append(made[0])
        return made

    async def close(self) -> None:
        """Close what was opened."""
        await let_go(self._opened)


async def connect(
    address: LogAddress, password: str, host: Host, settings: Mapping[str, str] | None = None
) -> Any:
    """A connection of asyncpg to `host`, if that is a primary. An attempt that fails leaves nothing open.

    Raises:
        FileUnusable: see there.
        asyncpg.PostgresError, TimeoutError, one of LOST: there is none.
    """
    loop = _Loop()
    try:
        connection: Any = await asyncpg.connect(
            loop=loop,
            host=host.name,
            port=host.port,
            user=address.user or None,
            password=password or None,
            database=address.database,
            ssl=tls_context(address) if address.encrypted else "disable",
            timeout=CONNECT_S,
            server_settings=settings,
            target_session_attrs="primary",
        )
    except BaseException:
        await loop.close()
        raise
    connection._loop = loop.running  # noqa: SLF001  whose tasks it asks for later
    return connection


async def _open(address: LogAddress, password: str, host: Host, log_id: str, timeline: int) -> Link:
    try:
        connection = await connect(address, password, host, _SESSION)
    except _SIGN_IN as error:
        raise SignInRefused(f"{host} refuses to let us in: {explained(error, address)}") from None
    link = Link(connection, host)
    try:
        async with asyncio.timeout(2 * CONNECT_S):
            link.standbys = await _check(connection)
            link.timeline = await _timeline(connection, timeline)
            link.log = await _log_of(connection, address, log_id)
        connection.remove_log_listener(link._hear)  # noqa: SLF001  warnings of making tables mean nothing
        link.broken_wait = False
        connection.add_log_listener(link._hear)  # noqa: SLF001
    except BaseException:
        link.drop()
        raise
    return link


async def _check(connection: Any) -> bool:
    """Whether its commits wait for a standby. Raises ConnectionError, Misconfigured."""
    found = await connection.fetchrow(_SETTINGS)
    if found["standby"]:
        raise ConnectionError("it is a standby")
    if found["fsync"] != "on":
        raise Misconfigured(
            "PostgreSQL would lose acknowledged commits in a power cut. Run on it:"
            " ALTER SYSTEM SET fsync = on; SELECT pg_reload_conf();"
        )
    weak = {"off", "local", "remote_write"} if found["standbys"] else {"off"}
    if found["commit"] in weak:
        raise Misconfigured(
            f"PostgreSQL acknowledges commits before they are safe (synchronous_commit = {found['commit']})."
            " Run on it: ALTER SYSTEM SET synchronous_commit = on; SELECT pg_reload_conf();"
            " and look whether the role or the database has a setting of its own (\\drds in psql)"
        )
    if found["version"] >= TRANSACTION_TIMEOUT_SINCE:
        await connection.execute("SET transaction_timeout = 0")
    return bool(found["standbys"])


async def _timeline(connection: Any, newest: int) -> int:
    found = int(await connection.fetchval(TIMELINE))
    if found < newest:
        raise ConnectionError("another server was promoted in its place: stop it")
    return found


async def _log_of(connection: Any, address: LogAddress, log_id: str) -> str:
    schema = address.name
    if await connection.fetchval("SELECT to_regclass($1)", f"{schema}.head") is None:
        if not log_id:  # what an older connection would write there has another order
            raise Misconfigured(TABLES_LOST.format(schema))
        try:
            await _make(connection, schema, log_id)
        except asyncpg.InsufficientPrivilegeError:
            user = await connection.fetchval("SELECT current_user")
            raise Misconfigured(
                f"the user {user} may not make the log's tables. Run as an administrator:"
                f" CREATE SCHEMA {schema} AUTHORIZATION {user};"
            ) from None
    try:
        head = await connection.fetchrow(f"SELECT format, log FROM {schema}.head")  # noqa: S608  our own name
    except asyncpg.InsufficientPrivilegeError:
        user = await connection.fetchval("SELECT current_user")
        raise SignInRefused(
            f"the user {user} may not use the log's tables. Run as an administrator:"
            f" GRANT ALL ON SCHEMA {schema} TO {user}; GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {user};"
        ) from None
    if head is None:
        raise Misconfigured(HEAD_LOST)
    if head["format"] != FORMAT:
        raise Misconfigured(f"the log has format {head['format']}, and this build reads {FORMAT}: upgrade it")
    return str(head["log"])


async def _make(connection: Any, schema: str, log_id: str) -> None:
    async with connection.transaction():
        # Two nodes that start at once would make the same table twice, which is an error in PostgreSQL.
        await connection.execute("SELECT pg_advisory_xact_lock(hashtext('huahuo.' || $1))", schema)
        if await connection.fetchval("SELECT 1 FROM pg_namespace WHERE nspname = $1", schema):
            statements = _TABLES.partition(";")[2]  # making a schema that exists needs a right too
        else:
            statements = _TABLES
        await connection.execute(statements.format(schema=schema))
        await connection.execute(
            f"INSERT INTO {schema}.head (format, log, first, last)"  # noqa: S608  our own name
            " VALUES ($1, $2, 1, 0) ON CONFLICT DO NOTHING",
            FORMAT,
            log_id,
        )


LOOK_S = 1.0
"""While a statement runs longer than this, the other servers are looked at, again after each such span."""
_CONNECT_S = 2.0
_log = structlog.get_logger(__name__)


class Succession:
    """Finding out that the primary was replaced while it says nothing, since it is frozen or cut off.

    `moved` is called with the host that has taken the place of ours.
    """

    def __init__(self, address: LogAddress, moved: Callable[[Host], None]) -> None:
        self.timeline = 0
        """The newest that was seen. A primary on an earlier one was replaced."""
        self._address = address
        self._moved = moved
        self._waiting: set[Link] = set()
        self._looking: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def attended(self, link: Link) -> Iterator[None]:
        """While a statement runs on `link`, see whether its server was replaced."""
        self._waiting.add(link)
        handle = asyncio.get_running_loop().call_later(LOOK_S, self._begin)
        try:
            yield
        finally:
            handle.cancel()
            self._waiting.discard(link)

    def meet(self, link: Link) -> None:
        """Take note of the timeline of a new link.

        Raises:
            Unreachable: its server was replaced while the link was opened. It is dropped.
        """
        if link.timeline < self.timeline:
            link.drop()
            raise Unreachable(f"{link.host}: another server was promoted in its place: stop it")
        self.timeline = link.timeline

    def close(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()

    def _begin(self) -> None:
        if self._looking is None and len(self._address.hosts) > 1:
            self._looking = asyncio.get_running_loop().create_task(self._look(), name="succession in the log")

    async def _look(self) -> None:
        try:
            while self._waiting:
                ours = {link.host for link in self._waiting}
                if await self._look_at([host for host in self._address.hosts if host not in ours]):
                    return
                await asyncio.sleep(LOOK_S)
        finally:
            self._looking = None

    async def _look_at(self, hosts: Sequence[Host]) -> bool:
        for host in hosts:
            timeline = await _timeline_of(self._address, host)
            if timeline is not None and timeline > self.timeline:
                self.timeline = timeline
                _log.warning("ordered_log_has_another_primary", host=str(host))
                self._moved(host)
                return True
        return False


async def _timeline_of(address: LogAddress, host: Host) -> int | None:
    """The timeline of a server, None if it is no primary or does not answer."""
    try:
        async with asyncio.timeout(_CONNECT_S):
            connection = await connect(address, password_of(address), host)
            try:
                return int(await connection.fetchval(TIMELINE))
            finally:
                connection.terminate()
    except (*LOST, asyncpg.PostgresError, TimeoutError, SequencerError):
        return None


RETRY_S = 0.2
"""Between two attempts to connect, so that a log that is down is not asked without pause."""


class Links:
    """The connections of one sequencer to whichever PostgreSQL server is the primary.

    `trouble` says why the log can't be reached, and is empty when it can.
    """

    def __init__(self, address: LogAddress, ambient: Ambient) -> None:
        self.address = address
        self.trouble = ""
        self.succession = Succession(address, self._move)
        self._ambient = ambient
        self._hosts = list(address.hosts)
        self._log = ""
        """The id of the log, once known: another one later means that the database was replaced."""
        self._links: set[Link] = set()
        self._tried_s = -RETRY_S
        self._closed = False

    async def wait(self) -> Link:
        """As `connect`, until there is one. Raises Unreachable: the log was closed. Misconfigured."""
        while True:
            try:
                return await self.connect()
            except Unreachable:
                if self._closed:
                    raise

    def _is_closed(self) -> bool:
        """Asked again after an await: it may have been closed meanwhile."""
        return self._closed

    async def connect(self) -> Link:
        """A checked connection. After a failed attempt the next one waits for `RETRY_S`.

        Raises:
            Unreachable: it can't be reached, or was closed.
            Misconfigured: it is another log, or may lose commits.
        """
        if self._closed:
            raise Unreachable("the log is closed")
        pause_s = self._tried_s + RETRY_S - self._ambient.monotonic_s()
        self._tried_s = self._ambient.monotonic_s() + max(pause_s, 0.0)
        if pause_s > 0:
            await asyncio.sleep(pause_s)
        try:
            link = await open_link(
                self.address, password_of(self.address), tuple(self._hosts),
                "" if self._log else self._ambient.token(), self.succession.timeline,
            )  # fmt: skip
            self.succession.meet(link)
        except SequencerError as error:
            self.trouble = str(error)
            raise
        if self._log and link.log != self._log:
            link.drop()
            raise Misconfigured(another_now(self.address))
        if self._is_closed():
            link.drop()
            raise Unreachable("the log is closed")
        self._log, self.trouble, self._tried_s = link.log, "", -RETRY_S
        self._links.add(link)
        return link

    def _move(self, host: Host) -> None:
        """This server is the primary now: leave all others, whatever is under way there."""
        self._hosts.sort(key=lambda one: one != host)
        for link in list(self._links):
            if link.host != host:
                self.drop(link)

    def drop(self, link: Link) -> None:
        """Leave a connection."""
        link.drop()
        self._links.discard(link)

    def close(self) -> None:
        """Leave all connections, and open no more."""
        self._closed = True
        self.succession.close()
        for link in list(self._links):
            self.drop(link)
