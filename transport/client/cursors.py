"""Stores that keep the Python client's cursors between runs of the application."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from huahuo.transport.client.model import Cursor


class CursorStore(Protocol):
    """Keeps the last processed seq of each stream. Each client id needs its own store.

    `save` is called at most a few times a second, on the loop. If the application crashes between processing
    and saving, events come again. An application that must not process an event twice keeps the cursor in one
    transaction with its own state, and passes it to the client (docs/python-client.md).
    """

    def load(self) -> Mapping[str, Cursor]:
        """The cursors by stream."""
        ...

    def save(self, cursors: Mapping[str, Cursor]) -> None:
        """Save these cursors. Cursors of other streams stay unchanged."""
        ...


class MemoryCursors:
    """Keeps cursors as long as the object lives."""

    def __init__(self) -> None:
        self._cursors: dict[str, Cursor] = {}

    def load(self) -> Mapping[str, Cursor]:
        """See `CursorStore`."""
        return dict(self._cursors)

    def save(self, cursors: Mapping[str, Cursor]) -> None:
        """See `CursorStore`."""
        self._cursors.update(cursors)


class FileCursors:
    """A JSON file. It is replaced as a whole, so that a crash leaves either the old or the new file.

    Raises:
        msgspec.DecodeError: from `load`, if the file holds something else.
        OSError: if the file cannot be read or written.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._cursors: dict[str, Cursor] | None = None

    def load(self) -> Mapping[str, Cursor]:
        """See `CursorStore`."""
        if self._cursors is None:
            self._cursors = {}
            with contextlib.suppress(FileNotFoundError):
                self._cursors = msgspec.json.decode(self._path.read_bytes(), type=dict[str, Cursor])
        return dict(self._cursors)

    def save(self, cursors: Mapping[str, Cursor]) -> None:
        """See `CursorStore`."""
        merged = {**self.load(), **cursors}
        aside = self._path.with_name(self._path.name + ".new")
        with aside.open("wb") as file:
            file.write(msgspec.json.encode(merged))
            file.flush()
            os.fsync(file.fileno())
        aside.replace(self._path)
        self._cursors = merged
