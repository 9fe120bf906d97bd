"""Whether the files of a running log are still those in its directory: by `stat` of the paths.

A file that was unlinked or replaced can still be written through its descriptor, and is lost when the process
ends. Only `stat` is used: closing another descriptor of the database would drop SQLite's locks.

Deleting, moving or replacing a file changes its directory's time. While that time stays the same, one `stat`
is enough. A time is trusted only after it was seen often, since two changes within one tick of the kernel's
clock share it.
"""

import os

import structlog

from huahuo.eventstore.errors import Detached

_TRUSTED_AFTER = 64
"""64 commits, each with a sync, last longer than a tick of the kernel's clock (4 ms at most)."""

type Identity = tuple[int, int]
_log = structlog.get_logger(__name__)


class Files:
    """The files at `paths` as they were when last noted."""

    def __init__(self, *paths: str) -> None:
        self._known: dict[str, Identity] = {}
        self._directory = os.path.dirname(paths[0]) or "."  # noqa: PTH120  as below
        self.lost = ""
        """Which file is not ours any more, and what to do: nothing is written then. "" while all are."""
        self._seen: tuple[int, int, int] | None = None
        self._times = 0
        self.note(*paths)

    def note(self, *paths: str) -> None:
        """Remember the files that are at `paths` now. Raises OSError if one is missing."""
        for path in paths:
            found = os.stat(path)  # noqa: PTH116  as below
            self._known[path] = (found.st_dev, found.st_ino)

    def must_be_ours(self, *but: str) -> None:
        """Raise Detached, now and on every later commit, if a path does not lead to our file any more.

        Without `but`, the paths to leave out, it is as quick as `changed_now`.
        """
        path = self.changed(*but) if but else self.changed_now()
        if path is not None:
            self.lost = (
                f"{path} was deleted, moved or replaced while the log was open: nothing is written any"
                " more; stop the service, then put the file back or restore a backup; a node of several"
                " starts with its keys, `node.name` and an empty directory, and fetches a copy"
            )
            _log.error("log_file_gone", path=path)
            raise Detached(self.lost)

    def changed_now(self) -> str | None:
        """As `changed`, for every commit: it skips the `stat` of each path while nothing can have changed."""
        try:
            found = os.stat(self._directory)  # noqa: PTH116
        except OSError:
            return self.changed()
        seen = (found.st_dev, found.st_ino, found.st_mtime_ns)
        if seen != self._seen:
            self._seen, self._times = seen, 0
        elif self._times >= _TRUSTED_AFTER:
            return None
        self._times += 1
        return self.changed()

    @property
    def may_have_changed(self) -> bool:
        """Whether the directory's time moved not long ago, as far as `changed_now` saw."""
        return self._times < _TRUSTED_AFTER

    def changed(self, *but: str) -> str | None:
        """The first path, except those in `but`, at which there is another file or none."""
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
