"""The index: which entries have which words, in a SQLite database of its own.

    doc     one row per entry: its number here, the caller's number and part, its time and its variant
    words   which entries have which word (FTS5 without contents or places: 2 or 3 bytes for each of them)
    meta    the log's id, and the position up to which the log was read

An entry's number rises with its minute, so that matches come newest or oldest first without being sorted, and
a range of times is a range of numbers. Keys are words too, marked as no text can mark one: the owner, and
whatever else must match exactly. A search of one owner reads nothing of another.

What is dropped is overwritten in the file, not only marked (`secure-delete` of FTS5 and SQLite). For that the
caller gives the same texts again, because the index does not keep them.
"""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.fulltext.words import KEY_MARK, Ask, Entry, Found, Place, marks_of, match_of, words_of

FORMAT: Final = 1
"""Changes with the tables, with `words_of` and with what text an entry has.

An index of another format is made anew.
"""
ONE_OF_MAX: Final = 200
"""Keys of which one must match. More are better sifted by the caller."""
_SLOTS: Final = 64
"""Entries of one minute. Further ones get the numbers of the minutes after it. More numbers, and so larger
distances between the entries of a word, would make the index larger."""
_MINUTE_MS: Final = 60_000
_LATE: Final = 64 * _SLOTS
"""A search up to a minute reads as many numbers more: entries that found no number in their own minute."""
_DAMAGED: Final = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
_OUTER: Final = (
    "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_CANTOPEN", "SQLITE_READONLY",
    "SQLITE_PERM", "SQLITE_NOMEM",
)  # fmt: skip
_FULL_MAX: Final = 10_000
_BUSY_TIMEOUT_MS: Final = 10_000
_CACHE_KIB: Final = 32 << 10
_MS_MAX: Final = 1 << 50
_PRAGMAS: Final = (
    f"busy_timeout={_BUSY_TIMEOUT_MS}",
    "journal_mode=WAL",
    "synchronous=NORMAL",
    "secure_delete=ON",
    f"cache_size=-{_CACHE_KIB}",
)
_TABLES: Final = (
    "CREATE TABLE doc (doc INTEGER PRIMARY KEY, item INTEGER UNIQUE, part INTEGER, at_ms INTEGER, variant)",
    "CREATE VIRTUAL TABLE words USING fts5(word, content='', columnsize=0, detail=none, tokenize='ascii')",
    "INSERT INTO words(words, rank) VALUES ('secure-delete', 1)",
    "CREATE TABLE meta (log TEXT, position INTEGER)",
    "INSERT INTO meta VALUES ('', 0)",
)
_PUT: Final = "INSERT INTO words(rowid, word) VALUES (?, ?)"
_DROP: Final = "INSERT INTO words(words, rowid, word) VALUES ('delete', ?, ?)"
_FIND: Final = {
    oldest_first: "SELECT doc.doc, item, part, at_ms FROM words JOIN doc ON doc.doc = words.rowid"  # noqa: S608  constants
    " WHERE words MATCH ? AND words.rowid BETWEEN ? AND ? AND at_ms >= ? AND at_ms < ?"
    f" ORDER BY words.rowid {order} LIMIT ?"
    for oldest_first, order in ((True, "ASC"), (False, "DESC"))
}


class Unusable(EventStoreError):  # noqa: N818  a fact about the file
    """The index's file is damaged. It holds nothing that cannot be made anew: `TextIndex.begin_anew`."""


def is_outer(error: BaseException) -> bool:
    """Whether an error tells of the disk, the memory or another process, and not of what was put."""
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorname", "").startswith(_OUTER)
    return isinstance(error, OSError | MemoryError)


class TextIndex:
    """One index. Its methods block, so call them on an executor; any thread may, also at the same time."""

    def __init__(self, path: Path | None, fields: Sequence[str] = ()) -> None:
        """Open the index at `path` (None: in memory). One that is missing or unusable is begun anew.

        `fields`: those that can be asked for alone (`marks_of`). Each word of them takes twice the space.
        """
        self._path = path
        self._marks = marks_of(fields)
        self._full: dict[int, int] = {}
        """By minute without a free number: the next one that may have one."""
        self._writing = threading.Lock()
        in_file = path is not None
        self._asking = threading.Lock() if in_file else self._writing
        self._asking_long = threading.Lock() if in_file else self._writing
        """So that a search that takes long keeps only its like waiting."""
        self._open()

    @property
    def place(self) -> Place:
        """How far it is. A new index is at the beginning of no log."""
        with self._writing:
            found = self._writer.execute("SELECT log, position FROM meta").fetchone()
        return Place(*found)

    @property
    def size_bytes(self) -> int:
        """Of the database."""
        with self._writing:
            (pages,) = self._writer.execute("PRAGMA page_count").fetchone()
            (page,) = self._writer.execute("PRAGMA page_size").fetchone()
        return int(pages * page)

    @property
    def count(self) -> int:
        """Entries in it."""
        with self._writing:
            (count,) = self._writer.execute("SELECT count(*) FROM doc").fetchone()
        return int(count)

    def begin_anew(self) -> None:
        """Forget everything, and be an empty index."""
        with self._alone():
            self._close()
            self._discard()
            self._open()

    def close(self) -> None:
        """Close the files. Idempotent."""
        with self._alone():
            self._close()

    def put(self, entries: Sequence[Entry], place: Place | None = None) -> None:
        """Add these, except those that are there, and move to `place`, in one transaction."""
        with self._writing, _readable(), self._transaction() as db:
            for entry in entries:
                number = self._free(entry.at_ms // _MINUTE_MS)
                row = (number, entry.item, entry.part, entry.at_ms, entry.variant)
                added = db.execute("INSERT OR IGNORE INTO doc VALUES (?, ?, ?, ?, ?)", row)
                if added.rowcount:
                    db.execute(_PUT, (number, self._words(entry)))
            if place is not None:
                db.execute("UPDATE meta SET log = ?, position = ?", (place.log_id, place.position))

    def variants(self, items: Sequence[int]) -> dict[int, int]:
        """The variants of those of these items that are in the index."""
        with self._writing, _readable():
            found = self._writer.execute(
                "SELECT item, variant FROM doc WHERE item IN (SELECT value FROM json_each(?))",
                (msgspec.json.encode(list(items)).decode(),),
            )
            return dict(found.fetchall())

    def drop(self, entries: Sequence[Entry]) -> None:
        """Remove these, as they were put. Their words are overwritten in the file."""
        with self._writing, _readable():
            with self._transaction() as db:
                for entry in entries:
                    row = db.execute("SELECT doc FROM doc WHERE item = ?", (entry.item,)).fetchone()
                    if row is not None:
                        db.execute(_DROP, (*row, self._words(entry)))
                        db.execute("DELETE FROM doc WHERE doc = ?", row)
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def find(self, ask: Ask) -> list[Found]:
        """The next matches. Raises ValueError: more than `ONE_OF_MAX` keys of which one must match."""
        if len(ask.one_of) > ONE_OF_MAX:
            raise ValueError("too many keys")
        since_ms = 0 if ask.since_ms is None else ask.since_ms
        until_ms = _MS_MAX if ask.until_ms is None else ask.until_ms
        low, high = _first(since_ms), _first(until_ms) + _LATE
        if ask.after is not None and ask.oldest_first:
            low = max(low, ask.after + 1)
        elif ask.after is not None:
            high = min(high, ask.after)
        match = match_of(ask.words, ask.keys, ask.one_of, ask.without)
        select = _FIND[ask.oldest_first]
        slow = ask.words.slow
        with self._asking_long if slow else self._asking, _readable():
            rows = (
                (self._long_reader if slow else self._reader)
                .execute(select, (match, low, high - 1, since_ms, until_ms, ask.limit))
                .fetchall()
            )
        return [Found(*row) for row in rows]

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """No other call is under way."""
        with contextlib.ExitStack() as held:
            for lock in dict.fromkeys((self._writing, self._asking, self._asking_long)):
                held.enter_context(lock)
            yield

    def _free(self, minute: int) -> int:
        """A number for an entry of this minute, or of one soon after it."""
        now = max(0, minute)
        while True:
            now = self._full.get(now, now)
            first = now * _SLOTS
            (last,) = self._writer.execute(
                "SELECT max(doc) FROM doc WHERE doc BETWEEN ? AND ?", (first, first + _SLOTS - 1)
            ).fetchone()
            if last is None or last < first + _SLOTS - 1:
                if now != minute:
                    self._full[minute] = now
                return first if last is None else int(last) + 1
            if len(self._full) >= _FULL_MAX:
                self._full.clear()
            self._full[now] = now + 1

    def _words(self, entry: Entry) -> str:
        """All words of an entry. Those of a field that can be asked for alone come once more, marked."""
        found: set[str] = set()
        for field, text in entry.texts.items():
            words = words_of(text)
            found |= words
            mark = self._marks.get(field)
            if mark is not None:
                found.update(mark + word for word in words)
        found.update(KEY_MARK + key for key in entry.keys)
        return " ".join(found)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        db = self._writer
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")

    def _open(self) -> None:
        try:
            self._writer = self._prepared()
        except sqlite3.DatabaseError:
            if self._path is None:
                raise
            self._discard()
            self._writer = self._prepared()
        if self._path is not None:
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(OSError):
                    self._path.with_name(self._path.name + suffix).chmod(0o600)
        self._reader = self._writer if self._path is None else self._connect()
        self._long_reader = self._writer if self._path is None else self._connect()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(
            ":memory:" if self._path is None else self._path, isolation_level=None, check_same_thread=False
        )
        try:
            for pragma in _PRAGMAS:
                db.execute(f"PRAGMA {pragma}").fetchall()
        except BaseException:
            db.close()
            raise
        return db

    def _prepared(self) -> sqlite3.Connection:
        """A connection to an index of this format. Raises DatabaseError: the file is something else."""
        db = self._connect()
        try:
            _prepare(db)
        except BaseException:
            db.close()
            raise
        return db

    def _close(self) -> None:
        self._long_reader.close()
        self._reader.close()
        self._writer.close()

    def _discard(self) -> None:
        if self._path is not None:
            for suffix in ("", "-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)


def _prepare(db: sqlite3.Connection) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version == FORMAT:
        return
    if version:
        raise sqlite3.DatabaseError("another format")
    db.execute("BEGIN IMMEDIATE")
    for statement in _TABLES:
        db.execute(statement)
    db.execute(f"PRAGMA user_version={FORMAT}")
    db.execute("COMMIT")


def _first(at_ms: int) -> int:
    """The first number of the minute of a time."""
    return max(0, at_ms) // _MINUTE_MS * _SLOTS


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorname", "").startswith(_DAMAGED):
            raise Unusable("the index is damaged") from None
        raise
