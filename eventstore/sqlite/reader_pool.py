"""The read-only connections of a SQLite log."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from huahuo.eventstore.errors import MISREAD, Closed, Corrupt
from huahuo.eventstore.sqlite.connecting import connect_reader
from huahuo.eventstore.sqlite.faults import translated


class ReaderPool:
    """See the module. Any number of calls at once, each on a connection of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: list[sqlite3.Connection] = []
        self._closed = False

    def close(self) -> None:
        """Close all connections. One that a call still has is closed when that ends."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def _give_back(self, connection: sqlite3.Connection) -> None:
        self._idle.append(connection)
        if self._closed:  # meanwhile, by a start that failed: nothing else would close it
            self.close()

    @contextlib.contextmanager
    def connection(self, place: str = "the log's file") -> Iterator[sqlite3.Connection]:
        """An idle connection or a new one: at most one for each job that runs.

        `place` names what is read, for the error if that fails.
        """
        if self._closed:
            raise Closed("the log has been closed")
        try:
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = connect_reader(self._path)
            try:
                yield connection
            finally:
                self._give_back(connection)
        except sqlite3.Error as error:
            raise translated(error, place) from None
        except MISREAD as error:
            # A column whose header is damaged has a value of another type.
            raise Corrupt(place, f"a value is none that was written ({type(error).__name__})") from error
