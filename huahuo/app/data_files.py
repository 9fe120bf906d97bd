"""Whether what lies in a data directory under the names of its files can be one: looked at before a start.

A directory, a link to a disk that is not mounted, or a file of another user would fail deep inside SQLite,
and a log that lies on a disk that is not mounted would look like one that lost everything.
"""

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from huahuo.actors.plugins.plugin import Plugin
from huahuo.app.config import Settings
from huahuo.app.keys import Keys, ensure, files_of
from huahuo.app.service_file import FILE
from huahuo.errors import ConfigError
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.audit.index import DATABASE as AUDIT
from huahuo.eventstore.sqlite.directory_lock import LOCK
from huahuo.eventstore.sqlite.mark import MARK
from huahuo.eventstore.sqlite.schema import DATABASE

_OF_DATABASE: Final = ("", "-wal", "-shm", "-journal")
_OWN_MODE: Final = 0o600
_OWN_MODE_DIRECTORY: Final = 0o700
_READABLE, _WRITABLE = os.R_OK, os.R_OK | os.W_OK


def keys_of_directory(settings: Settings, ambient: Ambient, plugins: Iterable[Plugin]) -> Keys:
    """The keys, which are made if the directory is new.

    Raises:
        ConfigError: as `ensure`, or as `must_be_files`.
    """
    must_be_files(settings, [file for one in plugins for file in one.projections.values()])
    return ensure(settings, ambient)


def must_be_files(settings: Settings, made_again: Iterable[str]) -> None:
    """Look at the directory and all its files. Those named `made_again` are made from the log if missing.

    Raises:
        ConfigError: one is none, or this user may not use it. The text says which and what to do.
    """
    data = settings.data
    for name in files_of(settings):
        _must_be_file(data / name, _READABLE, "put the key that belongs to this directory there")
    log = "put the file of the log back there, or restore a backup into a new directory (huahuo restore)"
    for name in (DATABASE, f"{DATABASE}-wal"):
        _must_be_file(data / name, _WRITABLE, log)
    own = "the service makes it again"
    for name in (f"{DATABASE}-shm", MARK, LOCK):
        _must_be_file(data / name, _WRITABLE, own)
    for name in (FILE, *(f"{name}{suffix}" for name in (AUDIT, *made_again) for suffix in _OF_DATABASE)):
        _must_be_file(data / name, _WRITABLE, own, links_are_made=True)
    if data.is_dir() and not os.access(data, _WRITABLE | os.X_OK):
        raise ConfigError(
            f"this user ({os.geteuid()}) may not write in {data}: {_usable_by(data, data.stat())}"
        )


def _must_be_file(path: Path, mode: int, way: str, *, links_are_made: bool = False) -> None:
    try:
        found = path.stat()
    except FileNotFoundError:
        if path.is_symlink() and not links_are_made:
            raise ConfigError(
                f"{path} is a link to {path.readlink()}, and there is nothing: if that is on another disk,"
                f" mount it; else remove the link, and {way}"
            ) from None
        return
    except NotADirectoryError:
        return  # `data` itself is none, which the start says
    except PermissionError:
        where = path.readlink() if os.path.islink(path) else path  # noqa: PTH114  False if it may not be asked
        raise ConfigError(
            f"this user ({os.geteuid()}) may not enter the directory of {where}: start as its owner,"
            " or choose another --data"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be looked at: {error.strerror}. Move it away, and {way}") from None
    if not stat.S_ISREG(found.st_mode):
        kind = "a directory" if stat.S_ISDIR(found.st_mode) else "not a regular file"
        raise ConfigError(f"{path} is {kind}, and a file belongs there: move it away, and {way}")
    if not os.access(path, mode):
        what = "read" if mode == _READABLE else "read and written"
        raise ConfigError(f"{path} cannot be {what} by this user ({os.geteuid()}): {_usable_by(path, found)}")


def _usable_by(path: Path, found: os.stat_result) -> str:
    is_directory = stat.S_ISDIR(found.st_mode)
    mode = _OWN_MODE_DIRECTORY if is_directory else _OWN_MODE
    if os.geteuid() not in (0, found.st_uid):
        whole = path if is_directory else path.parent
        return f"start as user {found.st_uid}, or give all files of {whole} to this user"
    if found.st_mode & mode == mode:
        return "its disk can only be read. Mount it for writing, or choose another --data"
    return f"chmod {mode:o} {path}"
