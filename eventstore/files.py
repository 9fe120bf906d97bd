"""Whether the files of a running log are still those in its directory: one `stat` of each path.

A file that was unlinked or replaced can still be written through its descriptor, and is then lost with
the process. Only `stat` is used: closing another descriptor of the database would drop SQLite's locks.
"""

import os

type Identity = tuple[int, int]


class Files:
    """The files at `paths` as they were when last noted."""

    def __init__(self, *paths: str) -> None:
        self._known: dict[str, Identity] = {}
        self.note(*paths)

    def note(self, *paths: str) -> None:
        """From now on these are the right ones. Raises OSError where there is none."""
        for path in paths:
            found = os.stat(path)  # noqa: PTH116  as below
            self._known[path] = (found.st_dev, found.st_ino)

    def changed(self, *but: str) -> str | None:
        """The first path, `but` these, that has another file or none."""
        for path, known in self._known.items():
            if path in but:
                continue
            try:
                found = os.stat(path)  # noqa: PTH116  a path object costs more than the call
            except OSError:
                return path
            if (found.st_dev, found.st_ino) != known:
                return path
        return None
