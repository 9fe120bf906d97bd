"""Reading what a SQLite log keeps besides its events: records of commands, secrets, blobs, rows and acks."""

from huahuo.eventstore.core.sums import must_fit, row_crc
from huahuo.eventstore.errors import Corrupt
from huahuo.eventstore.model import Ack, CommandKey, CommandRecord, Keyframe, Usage
from huahuo.eventstore.sqlite.absent import must_be_absent
from huahuo.eventstore.sqlite.commands import select_command
from huahuo.eventstore.sqlite.meta import get_meta
from huahuo.eventstore.sqlite.reader_pool import ReaderPool
from huahuo.eventstore.sqlite.table_faults import index_of
from huahuo.eventstore.sqlite.usage import SELECT_COUNTED, SELECT_USAGE

_SELECT_ACKS = (
    "SELECT user, client, stream, seq, crc FROM ack WHERE (:user IS NULL OR user = :user) AND"
    " (:client IS NULL OR client = :client) AND (:stream IS NULL OR stream = :stream) ORDER BY 1, 2, 3"
)


class RowReads:
    """See the module: these methods of `storage_port.Reads`. Each value is checked before it is returned."""

    def __init__(self, pool: ReaderPool) -> None:
        self._pool = pool

    def command(self, key: CommandKey) -> CommandRecord | None:
        """See `Reads`."""
        with self._pool.connection(f"command record {key.user} {key.client} {key.id}") as connection:
            record = select_command(connection, key)
            if record is None:
                must_be_absent(connection, "command", key.user, key.client, key.id)
            return record

    def sealed(self, owner: str, name: str) -> tuple[bytes, bytes] | None:
        """See `Reads`. Sealing binds the box to its names; a lost one that stands for it does not fit."""
        sql = (
            "SELECT wrapped, box, data_key.crc, sealed.crc FROM sealed LEFT JOIN data_key USING (owner)"
            " WHERE owner = ? AND name = ?"
        )
        with self._pool.connection(f"secret {name} of {owner}") as connection:
            row = connection.execute(sql, (owner, name)).fetchone()
            if row is None:
                must_be_absent(connection, "sealed", owner, name)
                return None
            wrapped, box, key_crc, box_crc = row
            if wrapped is None:  # a key goes together with all that is sealed under it
                raise Corrupt(index_of("data_key"), f"it lacks {owner}, which has a secret")
            must_fit(key_crc, "data_key", owner, wrapped)
            must_fit(box_crc, "sealed", owner, name, box)
            return wrapped, box

    def blob(self, blob_id: str) -> bytes | None:
        """See `Reads`. The caller compares the content with its name, which is its hash."""
        with self._pool.connection(f"blob {blob_id}") as connection:
            row = connection.execute("SELECT packed FROM blob WHERE id = ?", (blob_id,)).fetchone()
            if row is not None and not isinstance(row[0], bytes):
                raise TypeError("the content is no bytes")  # its row is on a page of another table
            return None if row is None else row[0]

    def rows(
        self, table: str, part: str, before: bytes | None, after: bytes | None, limit: int
    ) -> list[tuple[bytes, bytes]]:
        """See `Reads`."""
        sql = "SELECT key, value, crc FROM projection WHERE tbl = ? AND part = ? {} LIMIT ?"
        bounds: tuple[bytes, ...] = ()
        if after is not None:
            sql, bounds = sql.format("AND key > ? ORDER BY key"), (after,)
        elif before is not None:
            sql, bounds = sql.format("AND key < ? ORDER BY key DESC"), (before,)
        else:
            sql = sql.format("ORDER BY key DESC")
        with self._pool.connection(f"projection {table} {part}") as connection:
            found = connection.execute(sql, (table, part, *bounds, limit)).fetchall()
            for key, value, crc in found:  # `must_fit`, without its call: a start reads each open effect
                if crc != row_crc("projection", table, part, key, value):
                    must_fit(crc, "projection", table, part, key, value)
            return [(key, value) for key, value, _ in found]

    def row(self, table: str, part: str, key: bytes) -> bytes | None:
        """See `Reads`."""
        sql = "SELECT value, crc FROM projection WHERE tbl = ? AND part = ? AND key = ?"
        with self._pool.connection(f"projection {table} {part}") as connection:
            row = connection.execute(sql, (table, part, key)).fetchone()
            if row is None:
                must_be_absent(connection, "projection", table, part, key)
                return None
            must_fit(row[1], "projection", table, part, key, row[0])
            value: bytes = row[0]
            return value

    def keyframe(self, stream: str, fold: str, fingerprint: str, at: int) -> Keyframe | None:
        """See `Reads`."""
        sql = (
            "SELECT seq, state, crc FROM keyframe WHERE stream = ? AND fold = ? AND fingerprint = ?"
            " AND seq <= ? ORDER BY seq DESC LIMIT 1"
        )
        with self._pool.connection(f"keyframe {fold} of {stream}") as connection:
            row = connection.execute(sql, (stream, fold, fingerprint, at)).fetchone()
            if row is None:
                return None
            must_fit(row[2], "keyframe", stream, fold, fingerprint, *row[:2])
            return Keyframe(stream, fold, fingerprint, *row[:2])

    def acks(self, user: str | None, client: str | None, stream: str | None) -> list[Ack]:
        """See `Reads`."""
        found = []
        with self._pool.connection("acks") as connection:
            asked = {"user": user, "client": client, "stream": stream}
            for *row, crc in connection.execute(_SELECT_ACKS, asked):
                must_fit(crc, "ack", *row)
                found.append(Ack(*row))
        return found

    def single(self, key: str) -> bytes | None:
        """A single value of the log's, None if it has none. Raises Corrupt: it is not what was written."""
        with self._pool.connection(f"the log's own value `{key}`") as connection:
            return get_meta(connection, key)

    def counted(self) -> int:
        """See `Reads`."""
        with self._pool.connection() as connection:
            row = connection.execute(SELECT_COUNTED).fetchone()
            return int(row[0]) if row else 0

    def usage(self) -> tuple[int, list[Usage]]:
        """See `Reads`."""
        with self._pool.connection() as connection:
            connection.execute("BEGIN")  # both from one moment
            try:
                row = connection.execute(SELECT_COUNTED).fetchone()
                found = []
                for *one, crc in connection.execute(SELECT_USAGE):
                    must_fit(crc, "usage", *one)
                    found.append(Usage(*one))
                return int(row[0]) if row else 0, found
            finally:
                connection.execute("COMMIT")
