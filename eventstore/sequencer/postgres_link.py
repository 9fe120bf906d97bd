"""One connection to the PostgreSQL primary that holds an ordered log, checked before it is used."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg

from huahuo.eventstore.sequencer.address import Host, LogAddress
from huahuo.eventstore.sequencer.credentials import SignInRefused, tls_context
from huahuo.eventstore.sequencer.port import Misconfigured, SequencerError, Unreachable
from huahuo.eventstore.sequencer.postgres_words import HEAD_LOST, LOCK_S, TABLES_LOST, told
from huahuo.eventstore.sequencer.sockets import detect_dead_peer, let_go

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
    position bigint PRIMARY KEY, id text NOT NULL UNIQUE, body bytea NOT NULL
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
            reasons.append(Unreachable(f"{host}: {told(error, address)}"))
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
        raise SignInRefused(f"{host} refuses to let us in: {told(error, address)}") from None
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
