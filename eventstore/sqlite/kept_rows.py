"""Forgetting what clients left under ids of their own: old command records, acks of unused clients."""

import sqlite3
from collections import Counter
from typing import Any

import msgspec

from huahuo.eventstore.core.changes import Group, PutAcks, PutCommand
from huahuo.eventstore.core.draft import COMMANDS_KEPT_MS
from huahuo.eventstore.core.kept import AckClients, CommandCounts, KeptLimits
from huahuo.eventstore.limits import INT64_MAX
from huahuo.eventstore.sqlite.changes import Values
from huahuo.eventstore.sqlite.faults import is_corrupt, text_of
from huahuo.eventstore.sqlite.schema import COMMAND_FITS

_PRUNE_PAUSE_MS = 1000
_PRUNE_ROWS_MIN = 64
_SWEEP_ROWS_MIN = 256
_SWEEP_ROWS_EACH = 64
"""Old records examined for each new one: enough to keep a user at its bound who owns one record in 64."""
_SWEEP_USERS = 4
_SWEPT_MAX = 10_000

_OLDEST = "(SELECT rowid, * FROM command ORDER BY rowid LIMIT :limit) WHERE ts < :before_ms"
_FORGET_OLDEST = (
    f"DELETE FROM command WHERE rowid IN (SELECT rowid FROM {_OLDEST}) AND rowid <="  # noqa: S608  constants
    f" (SELECT rowid FROM {_OLDEST} AND {COMMAND_FITS} ORDER BY rowid DESC LIMIT 1) RETURNING user"
)
"""Rows are ordered by age. A row with a damaged `ts` is deleted with a later row, so never too early."""


_ACK_CLIENTS = "SELECT user, client FROM ack GROUP BY user, client ORDER BY max(rowid)"
_OLDEST_TS = "SELECT ts FROM command ORDER BY rowid LIMIT 1"
_COMMAND_COUNTS = "SELECT user, count(*) FROM command GROUP BY user"


class Kept:
    """The counts of what is kept, and its bounds. `bound` belongs to the transaction of the group."""

    def __init__(self, connection: sqlite3.Connection, limits: KeptLimits) -> None:
        self.connection = connection
        self._limits = limits
        self._damaged = False
        self._swept: dict[str, int] = {}  # by user with too many records: the last row examined
        self.count(connection)

    def count(self, connection: sqlite3.Connection) -> None:
        """Count again. Checksums are not verified, because the counts only decide how much is forgotten."""
        self.connection = connection
        self.due_ms = 0
        """When old records are forgotten next, on the clock of the command records."""
        self.ack_clients = AckClients(self._limits, self._readable(_ACK_CLIENTS))
        self.commands = CommandCounts(self._limits, self._readable(_COMMAND_COUNTS))
        self._readable(_OLDEST_TS)  # what the next group begins to forget

    def _readable(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of `sql`; none if a page is damaged, so that more is kept than was asked for."""
        before, self.connection.text_factory = self.connection.text_factory, text_of
        try:
            return self.connection.execute(sql).fetchall()
        except sqlite3.DatabaseError as error:
            if not is_corrupt(error):
                raise
            self._damaged = True
            return []
        finally:
            self.connection.text_factory = before

    def bound(self, group: Group) -> None:
        """Forget acks of unused clients and the oldest command records, always more than the group adds.

        Where a damaged page is met, the group fails, and nothing is forgotten from then on.
        """
        if self._damaged:
            return
        try:
            self._bound(group)
        except sqlite3.DatabaseError as error:
            self._damaged = is_corrupt(error)
            raise

    def _bound(self, group: Group) -> None:
        counts = self.commands
        new = 0
        kinds = set(map(type, group.changes))  # few, of many changes
        if PutCommand in kinds:
            users = [change.record.key.user for change in group.changes if isinstance(change, PutCommand)]
            new = len(users)
            of_users: dict[str, int] = {}  # most groups are small: a `Counter` takes six calls more
            for user in users:
                of_users[user] = of_users.get(user, 0) + 1
            for user, count in of_users.items():
                counts.add(user, count)
        if PutAcks in kinds:
            for change in group.changes:
                if isinstance(change, PutAcks):
                    self._bound_acks(change)
        if group.age_ms >= self.due_ms:
            self._forget_old(group.age_ms, _PRUNE_ROWS_MIN + 2 * new)
        if counts.too_many:
            self._forget_oldest(min(_PRUNE_ROWS_MIN + 2 * new, counts.too_many), INT64_MAX)
        if counts.over:
            for user in list(counts.over)[:_SWEEP_USERS]:
                self._sweep(user, _SWEEP_ROWS_MIN + _SWEEP_ROWS_EACH * new)

    def _bound_acks(self, put: PutAcks) -> None:
        gone = [one for ack in put.acks for one in self.ack_clients.use(ack.user, ack.client)]
        for one in gone:
            self.connection.execute("DELETE FROM ack WHERE user = ? AND client = ?", one)

    def _forget_old(self, age_ms: int, limit: int) -> None:
        """Forget command records that are old enough. Rows are in commit order, so no index is needed."""
        if self._forget_oldest(limit, age_ms - COMMANDS_KEPT_MS) < limit:
            oldest = self.connection.execute(_OLDEST_TS).fetchone()
            due_ms = (oldest[0] if oldest else age_ms) + COMMANDS_KEPT_MS
            self.due_ms = max(due_ms, age_ms + _PRUNE_PAUSE_MS)

    def _forget_oldest(self, limit: int, before_ms: int) -> int:
        """Forget those of the `limit` oldest records that are older than `before_ms`. Returns how many."""
        return self._forgotten(_FORGET_OLDEST, {"limit": limit, "before_ms": before_ms})

    def _sweep(self, user: str, limit: int) -> None:
        """Examine the next `limit` records and forget those of a user with too many."""
        sql = "SELECT rowid, user FROM command WHERE rowid > ? ORDER BY rowid LIMIT ?"
        rows = self.connection.execute(sql, (self._swept.get(user, 0), limit)).fetchall()
        chosen = [row for row, owner in rows if owner == user][: self.commands.over[user]]
        if len(self._swept) > _SWEPT_MAX:
            self._swept.clear()
        if len(chosen) == self.commands.over[user]:
            self._swept[user] = chosen[-1]
        else:
            self._swept[user] = rows[-1][0] if rows else 0  # at the end: start over
        if chosen:
            self._forgotten(
                "DELETE FROM command WHERE rowid IN (SELECT value FROM json_each(?)) RETURNING user",
                (msgspec.json.encode(chosen).decode(),),
            )

    def _forgotten(self, sql: str, values: Values) -> int:
        users = Counter(user for (user,) in self.connection.execute(sql, values).fetchall())
        for user, count in users.items():
            self.commands.add(user, -count)
        return users.total()
