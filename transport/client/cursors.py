"""Where the Python client keeps its cursors between runs of the application."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from huahuo.transport.client.model import Cursor


class CursorStore(Protocol):
    """Keeps what was processed. One store for one client id.

    `save` is called at most a few times a second, on the loop. A store that is behind (a crash between
    processing and saving) makes events come again: an application that must not see one twice keeps
    the cursor with its own state, in one transaction, and hands it in again (docs/python-client.md).
    """

    def load(self) -> Mapping[str, Cursor]:
        """The cursors by stream."""
        ...

    def save(self, cursors: Mapping[str, Cursor]) -> None:
        """Keep these; streams that are not named stay as they are."""
        ...


class MemoryCursors:
    """Lives as long as the object."""

    def __init__(self) -> None:
        self._cursors: dict[str, Cursor] = {}

    def load(self) -> Mapping[str, Cursor]:
        """See `CursorStore`."""
        return dict(self._cursors)

    def save(self, cursors: Mapping[str, Cursor]) -> None:
        """See `CursorStore`."""
        self._cursors.update(cursors)


class FileCursors:
    """A JSON file, replaced whole so that a crash leaves the old one or the new one.

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
