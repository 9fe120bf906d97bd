"""The tables of the SQLite engine and how a connection is set up.

meta        one value per key: log id, writer epoch, mark of the master key, time of the last probe
name        texts that repeat in every event (types, builds), by number
stream      streams by number; `first` = oldest seq still kept
ended       streams of which nothing is kept in memory (`huahuo.eventstore.sqlite.ended`)
event       the log
seq_index   positions by stream and seq, except the newest events (`huahuo.eventstore.sqlite.seq_index`)
pruned      tombstones: the place and the link of each pruned event
command     answers of commands, kept at least 7 days
counter     the next number of each counter
data_key    wrapped data keys; sealed = secrets under them
blob        packed content with its reference count
projection  sorted rows of named projections
keyframe    packed states of folds
ack         processed positions of clients
usage       bytes that each user takes (`huahuo.eventstore.sqlite.usage`)
passed      of a replica: what it had after each of the newest proposals (`huahuo.eventstore.sqlite.passed`)

Rows outside the hash chain end with `crc`, their checksum (`huahuo.eventstore.core.sums.row_crc`) over the
columns before it; in `seq_index` and `pruned` it is the running checksum of the stream.
"""

import contextlib
import sqlite3
from collections.abc import Container, Iterable, Sequence
from pathlib import Path

import structlog

from huahuo.eventstore.core.sums import register
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.sqlite import seq_index
from huahuo.eventstore.sqlite.ended import MAKE_ENDED
from huahuo.eventstore.sqlite.naming import read_naming
from huahuo.eventstore.sqlite.passed import MAKE_PASSED
from huahuo.eventstore.sqlite.usage import COLUMNS, MAKE_USAGE

FORMAT = 4
"""The format of the tables, kept in `user_version`. A newer format is refused; an older one is upgraded when
the log is opened for writing. Format 3 had no checksums in `ack` and `usage`, format 2 had none at all, and
format 1 had an index of SQLite's own in place of `seq_index`."""

DATABASE = "log.db"

_log = structlog.get_logger(__name__)

PAGE_BYTES = 8192
BUSY_TIMEOUT_MS = 5000
_WAL_BYTES_KEPT = 64 << 20
WAL_CHECKPOINT_BYTES = 2 << 20
"""The size of the write-ahead log at which a commit also checkpoints. That commit is slower: with 16 MiB some
such commits lasted 90 ms. A smaller write-ahead log makes them more frequent and each of them cheaper.
"""

_COMMON_PRAGMAS = ("mmap_size=0", "temp_store=MEMORY", "trusted_schema=OFF", "cell_size_check=ON")
_WRITER_PRAGMAS = (
    "synchronous=FULL",
    "fullfsync=1",  # macOS: a sync that reaches the disk
    "checkpoint_fullfsync=1",
    f"wal_autocheckpoint={WAL_CHECKPOINT_BYTES // PAGE_BYTES}",
    f"journal_size_limit={_WAL_BYTES_KEPT}",
    "foreign_keys=OFF",
    "cache_size=-65536",
    "secure_delete=ON",
)

_TABLES: dict[str, tuple[dict[str, type], str | tuple[str, ...]]] = {
    "meta": ({"key": str, "value": bytes, "crc": int}, "key"),
    "name": ({"id": int, "text": str, "crc": int}, "id"),
    "stream": ({"id": int, "name": str, "first": int, "crc": int}, "id"),
    "event": (
        {
            "position": int,
            "stream": int,
            "seq": int,
            "type": int,
            "version": int,
            "ts": int,
            "entity": str,
            "principal": str,
            "command_id": str,
            "cause": int,
            "build": int,
            "body": bytes,
            "chain": bytes,
        },
        "position",
    ),
    "pruned": (
        {"position": int, "stream": int, "seq": int, "chain": bytes, "crc": int},
        "position",
    ),
    "command": (
        {
            "user": str,
            "client": str,
            "id": str,
            "fingerprint": bytes,
            "reply": bytes,
            "at_stream": str,
            "at_seq": int,
            "ts": int,
            "crc": int,
        },
        ("user", "client", "id"),
    ),
    "counter": ({"name": str, "next": int, "crc": int}, "name"),
    "data_key": ({"owner": str, "wrapped": bytes, "crc": int}, "owner"),
    "sealed": ({"owner": str, "name": str, "box": bytes, "crc": int}, ("owner", "name")),
    "blob": ({"id": str, "refs": int, "packed": bytes, "crc": int}, "id"),
    "projection": (
        {"tbl": str, "part": str, "key": bytes, "value": bytes, "crc": int},
        ("tbl", "part", "key"),
    ),
    "keyframe": (
        {"stream": str, "fold": str, "fingerprint": str, "seq": int, "state": bytes, "crc": int},
        ("stream", "fold", "fingerprint", "seq"),
    ),
    "ack": (
        {"user": str, "client": str, "stream": str, "seq": int, "crc": int},
        ("user", "client", "stream"),
    ),
}
_UNIQUE = {"name": ("text",), "stream": ("name",)}
_PRUNED_BY_SEQ = "CREATE INDEX pruned_by_seq ON pruned (stream, seq)"
_SEQ_INDEX = (
    "CREATE TABLE seq_index (stream INTEGER NOT NULL, seq INTEGER NOT NULL, position INTEGER NOT NULL,"
    " crc INTEGER NOT NULL, PRIMARY KEY (stream, seq)) STRICT, WITHOUT ROWID"
)
SUMMED: dict[str, tuple[str, ...]] = {
    name: tuple(column for column in columns if column != "crc")
    for name, (columns, _) in _TABLES.items()
    if "crc" in columns and name != "pruned"
} | {"usage": COLUMNS}
"""The tables whose rows carry a checksum of their own, each with the columns that it covers, in order."""
STAND_INS: dict[str, list[str | bytes | int]] = {
    name: [kind() for kind in columns.values()][:-1]
    for name, (columns, _) in _TABLES.items()
    if name in SUMMED
}
"""Of each of them an empty value for every column of `SUMMED`."""
COMMAND_FITS = f"crc = row_crc('command', {', '.join(SUMMED['command'])})"
"""A condition for the writer's statements: the command record fits its checksum."""
_FIRST_WITH_SUMS = 3
_SUMMED_LATER = ("ack", "usage")
"""What has checksums since format 4."""


def connect_writer(path: Path) -> sqlite3.Connection:
    """Open the one connection that writes and checkpoints. The file must exist already, with its mode."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
        _set(connection, _COMMON_PRAGMAS)
        mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        if mode != "wal":
            raise EventStoreError(f"{path} cannot have a write-ahead log (journal mode {mode})")  # noqa: TRY301
        _set(connection, _WRITER_PRAGMAS)
        register(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that can neither write nor checkpoint, not even when it closes."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
    )
    try:
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, True)
        connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        _set(connection, _COMMON_PRAGMAS)
        if not has_all_sums(connection):
            _show_without_sums(connection)
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'ended'").fetchone():
            connection.execute("CREATE TEMP VIEW ended AS SELECT 0 AS stream WHERE 0")
    except BaseException:
        connection.close()
        raise
    return connection


def _tables(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def known_format(connection: sqlite3.Connection) -> int:
    """The format of the tables, 0 if there are none.

    Raises:
        EventStoreError: they were made by a newer version.
    """
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > FORMAT:
        raise EventStoreError(
            f"a newer version of huahuo wrote this log: it has format {version}, and this one knows up to"
            f" {FORMAT}. Update huahuo, or restore a backup of before"
        )
    return version


def prepare(connection: sqlite3.Connection) -> bool:
    """Create the tables if there are none; returns whether the log is new. Call it in a transaction.

    Tables of an older format are upgraded.

    Raises:
        EventStoreError: the tables were made by a newer version, or are not ours.
    """
    version = known_format(connection)
    if version:
        connection.execute(MAKE_ENDED)
        connection.execute(MAKE_USAGE)
        connection.execute(MAKE_PASSED)
        if version < FORMAT:
            _log.info("log_brought_up_to_date", format=version, to=FORMAT)
            for table in SUMMED:
                _add_sums(connection, table)
            if version < _FIRST_WITH_SUMS:
                _bring_up_to_date(connection, version)
            connection.execute(f"PRAGMA user_version={FORMAT}")
            _log.info("log_is_up_to_date", format=FORMAT)
        missing = {*_TABLES, "seq_index"} - _tables(connection)
        if missing:
            raise EventStoreError(f"the log lacks its tables {', '.join(sorted(missing))}")
        return False
    if _tables(connection):
        raise EventStoreError("the file holds tables that are not a log's")
    import sqlite_utils  # here: it is a tenth of the imports of a start, and only a new log needs it
    from sqlite_utils import utils

    # If another SQLite library is installed, sqlite_utils prefers it; but two of them in one process drop
    # each other's file locks.
    if vars(utils)["sqlite3"] is not sqlite3:
        raise EventStoreError("sqlite_utils uses another SQLite library than Python: uninstall pysqlite3")
    db = sqlite_utils.Database(connection, recursive_triggers=False, execute_plugins=False)
    for name, (columns, key) in _TABLES.items():
        db.table(name).create(columns, pk=key, not_null=set(columns), strict=True)
    for name, over in _UNIQUE.items():
        db.table(name).create_index(over, index_name=f"{name}_unique", unique=True)
    connection.execute(_SEQ_INDEX)
    connection.execute(_PRUNED_BY_SEQ)
    connection.execute(MAKE_ENDED)
    connection.execute(MAKE_USAGE)
    connection.execute(MAKE_PASSED)
    seq_index.put_mark(connection, 0)
    connection.execute(f"PRAGMA user_version={FORMAT}")
    return True


def _bring_up_to_date(connection: sqlite3.Connection, version: int) -> None:
    """Upgrade the tables in one pass over the events, each checked against the chain: seconds per million."""
    connection.execute("ALTER TABLE pruned ADD COLUMN crc INTEGER NOT NULL DEFAULT 0")
    connection.execute(_PRUNED_BY_SEQ)
    connection.execute("DROP INDEX event_unique" if version == 1 else "DROP TABLE seq_index")
    connection.execute(_SEQ_INDEX)
    seq_index.put_mark(connection, 0)
    seq_index.catch_up(connection, read_naming(connection))


def _add_sums(connection: sqlite3.Connection, table: str) -> None:
    """Add the column of checksums to a table that has none, with that of each row as it is.

    One with a damaged page is made anew if what it holds comes again by itself.
    """
    if has_sums(connection, table):
        return
    listed = ", ".join(SUMMED[table])
    if table in _SUMMED_LATER and not _is_whole(connection, table):
        make_anew(connection, table)
    connection.execute(f"ALTER TABLE {table} ADD COLUMN crc INTEGER NOT NULL DEFAULT 0")
    connection.execute(f"UPDATE {table} SET crc = row_crc('{table}', {listed})")  # noqa: S608  constants


def has_sums(connection: sqlite3.Connection, table: str) -> bool:
    """Whether the rows of `table` carry checksums. In a file of an older format some do not."""
    columns = connection.execute("SELECT name FROM pragma_table_info(?)", (table,)).fetchall()
    return ("crc",) in columns


def _is_whole(connection: sqlite3.Connection, table: str) -> bool:
    """Whether no page of `table` is damaged. By another connection: after damage SQLite writes no more."""
    path = connection.execute("PRAGMA database_list").fetchone()[2]
    with contextlib.closing(sqlite3.connect(f"{Path(path).as_uri()}?mode=ro", uri=True)) as looking:
        try:
            return bool(looking.execute(f"PRAGMA quick_check('{table}')").fetchone()[0] == "ok")
        except sqlite3.DatabaseError:
            return False


def made_by(connection: sqlite3.Connection, table: str) -> Sequence[str]:
    """The statements that made `table` and its named indexes, the table's first."""
    sql = "SELECT sql FROM sqlite_master WHERE tbl_name = ? AND sql IS NOT NULL ORDER BY type = 'index'"
    return [made for (made,) in connection.execute(sql, (table,))]


def drop_table(connection: sqlite3.Connection, table: str, broken: Container[str]) -> None:
    """Drop `table`. If it is in `broken`, only forget it: its pages stay in the file, unused."""
    if table not in broken:
        connection.execute(f"DROP TABLE {table}")
        return
    connection.execute("PRAGMA writable_schema=ON")
    connection.execute("DELETE FROM sqlite_master WHERE tbl_name = ?", (table,))
    connection.execute("PRAGMA writable_schema=RESET")


def make_index(connection: sqlite3.Connection) -> None:
    """Create the table of `huahuo.eventstore.sqlite.seq_index`, empty."""
    connection.execute(_SEQ_INDEX)


def is_old(connection: sqlite3.Connection) -> bool:
    """Whether the log has a format without checksums."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return 0 < version < _FIRST_WITH_SUMS


def has_all_sums(connection: sqlite3.Connection) -> bool:
    """Whether every table of `SUMMED` has its checksums. A file without tables counts as such."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version == 0 or version >= FORMAT


def _show_without_sums(connection: sqlite3.Connection) -> None:
    """Present a log of an older format as one of the present format whose checksums are unknown."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    made = _tables(connection)
    for table in (*SUMMED, "pruned") if version < _FIRST_WITH_SUMS else _SUMMED_LATER:
        rows = f"SELECT *, NULL AS crc FROM main.{table}"  # noqa: S608  constants
        if table not in made:
            rows = "SELECT " + ", ".join(f"NULL AS {name}" for name in (*SUMMED[table], "crc")) + " WHERE 0"
        connection.execute(f"CREATE TEMP VIEW {table} AS {rows}")
    if version >= _FIRST_WITH_SUMS:
        return
    places = "main.event" if version == 1 else "main.seq_index"
    connection.execute(
        f"CREATE TEMP VIEW seq_index AS SELECT stream, seq, position, NULL AS crc FROM {places}"  # noqa: S608
    )


def _set(connection: sqlite3.Connection, pragmas: Iterable[str]) -> None:
    for pragma in pragmas:
        connection.execute(f"PRAGMA {pragma}")


def sqlite_version() -> str:
    """The version of the one SQLite library in the process."""
    return sqlite3.sqlite_version


def make_anew(connection: sqlite3.Connection, table: str) -> None:
    """Replace `table`, of which a page is damaged, by an empty one."""
    made = made_by(connection, table)
    drop_table(connection, table, (table,))
    for sql in made:
        connection.execute(sql)
    if table == "usage":
        connection.execute("DELETE FROM meta WHERE key = 'counted'")  # all events are counted again
