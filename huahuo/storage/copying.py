"""One backup of the schedule, in a process of its own, so that copying and checking delay no client.

    python -m huahuo.storage.copying DATA TARGET KEEP EVERY_S

KEEP 0: a single one, in TARGET itself, for a node that joins.

    TARGET/2026-11-26T020304Z/    as `huahuo backup` makes it; TARGET may be s3://BUCKET/PREFIX
    TARGET/2026-11-26T020304Z/backup.json    uploaded last: without it, no backup

It prints one JSON object, an `Outcome`. A backup counts only after it was restored into a private folder
and checked there, event by event. A process that makes one holds a lock on its folder; the next backup
removes the folders of processes that are gone. Access to an object store comes from the environment by
the names that S3 tools share: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and such.
"""

import asyncio
import fcntl
import ipaddress
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from huahuo.errors import ConfigError, HuahuoError
from huahuo.eventstore.ambient import Ambient, SystemAmbient, rfc3339
from huahuo.eventstore.care.backup import MANIFEST, Manifest, back_up, put_back
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.sqlite.schema import DATABASE

__all__ = ["SCHEME", "Objects"]

_PREFIX: Final = "unfinished-"


@contextmanager
def staged(near: Path) -> Iterator[Path]:
    """A new folder in `near`, removed at the end. Raises OSError."""
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=near) as made:
        lock = os.open(made, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH)
            yield Path(made)
        finally:
            os.close(lock)


def sweep_staging(near: Path) -> None:
    """Remove such folders in `near` that no process holds. Where locks are not known, they stay."""
    for left in near.glob(f"{_PREFIX}*"):
        try:
            lock = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue  # it has gone meanwhile, or is none
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left)
        except OSError:
            continue  # a backup is being made there
        finally:
            os.close(lock)


SCHEME = "s3://"
_PART_BYTES = 16 << 20
_RETRIES: Any = {"max_retries": 4, "retry_timeout": timedelta(seconds=60)}
_MISSING = "backups to s3:// need one more package: pip install 'huahuo[s3]'"


class Objects:
    """The backups below one address."""

    def __init__(self, url: str) -> None:
        """`url`: `s3://BUCKET/PREFIX`; the prefix may be empty.

        Raises:
            ConfigError: the address names no bucket, or the package for it is not installed.
        """
        parts = urlsplit(url)
        if not url.startswith(SCHEME) or not parts.netloc or parts.query or parts.fragment:
            raise ConfigError(f"not an address of backups, such as s3://bucket/huahuo: {url!r}")
        try:
            from obstore.store import S3Store
        except ImportError:
            raise ConfigError(_MISSING) from None
        self._url = url.rstrip("/")
        self._prefix = parts.path.strip("/")
        with self._asking():
            self._store = S3Store(
                parts.netloc,
                client_options=_client_options(),
                retry_config=_RETRIES,
            )

    def names(self) -> list[str]:
        """The complete backups, oldest first.

        Raises:
            HuahuoError: the store does not answer, or refuses.
        """
        import obstore

        found = []
        with self._asking():
            for page in obstore.list(self._store, self._prefix or None):
                for entry in page:
                    folder, _, file = entry["path"].rpartition("/")
                    if file == MANIFEST and folder.rpartition("/")[0] == self._prefix:
                        found.append(folder.rpartition("/")[2])
        return sorted(found)

    def put(self, folder: Path, name: str) -> str:
        """Upload a backup; returns its address. The manifest goes last, so that a broken upload is no backup.

        Raises:
            HuahuoError: as `names`.
        """
        import obstore

        files = sorted(folder.iterdir(), key=lambda file: file.name == MANIFEST)
        with self._asking():
            for file in files:
                obstore.put(self._store, self._key(name, file.name), file, chunk_size=_PART_BYTES)
        return f"{self._url}/{name}"

    def get(self, folder: Path) -> None:
        """Download the backup that the address names, or the newest one below it, into a directory.

        Raises:
            ConfigError: there is no backup. HuahuoError: as `names`.
        """
        import obstore

        names = self.names()
        named = "" if names else self._prefix.rpartition("/")[2]
        if not names:
            self._prefix = self._prefix.rpartition("/")[0]
            names = [name for name in self.names() if name == named]
        if not names:
            raise ConfigError(
                f"there is no backup at {self._url}: `huahuo backup s3://BUCKET/PREFIX` makes one"
            )
        with self._asking():
            for page in obstore.list(self._store, self._key(names[-1])):
                for entry in page:
                    self._download(entry["path"], folder / entry["path"].rpartition("/")[2])

    def keep(self, count: int) -> list[str]:
        """Delete all but the newest `count` backups; returns the names of the deleted.

        Raises:
            HuahuoError: as `names`.
        """
        import obstore

        old = self.names()[:-count]
        for name in old:
            with self._asking():
                # The manifest first: what is left after a broken deletion is no backup.
                obstore.delete(self._store, self._key(name, MANIFEST))
                rest = [
                    entry["path"] for page in obstore.list(self._store, self._key(name)) for entry in page
                ]
                obstore.delete(self._store, rest)
        return old

    def _download(self, key: str, target: Path) -> None:
        import obstore

        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            for part in obstore.get(self._store, key).stream(min_chunk_size=_PART_BYTES):
                file.write(part)

    def _key(self, *names: str) -> str:
        return "/".join((self._prefix, *names) if self._prefix else names)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Say what the store said, in one line and without secrets."""
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, FileNotFoundError) as error:  # the latter: no such bucket or object
            raise HuahuoError(f"{self._url}: {_said(error)}") from None


def _said(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


def _client_options() -> Any:
    """Plain http for a store on this machine only."""
    host = urlsplit(os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")).hostname
    return {"allow_http": host is not None and _is_loopback(host)}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


_NAME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d{6}Z")
_COPIES: Final = 2
"""The backup, and the copy that the restore test makes of it."""
_NICE: Final = 10
_ROOM: Final = 64 << 20
"""Left free on the disk of the target by a backup."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of it: a backup, a wait, or an error."""

    made: str = ""
    position: int = 0
    deleted: tuple[str, ...] = ()
    due_in_s: float = 0.0
    """The newest backup is young enough: the next one is due in this time."""
    error: str = ""


def name_at(now_ms: int) -> str:
    """The name of a backup, by which they sort."""
    return rfc3339(now_ms)[:19].replace(":", "") + "Z"


def made_ms(name: str) -> int:
    """When a backup of this name was made."""
    return round(datetime.strptime(name, "%Y-%m-%dT%H%M%SZ").replace(tzinfo=UTC).timestamp() * 1000)


class Folder:
    """The backups in a directory."""

    def __init__(self, target: Path) -> None:
        self._target = target

    def names(self) -> list[str]:
        """The complete backups, oldest first. Other things in the directory are left alone."""
        if not self._target.is_dir():
            return []
        found = (one.name for one in self._target.iterdir() if (one / MANIFEST).is_file())
        return sorted(name for name in found if _NAME.fullmatch(name))

    def keep(self, count: int) -> list[str]:
        """Delete all but the newest `count` backups; returns the names of the deleted."""
        old = self.names()[:-count]
        for name in old:
            (self._target / name / MANIFEST).unlink()  # first: what is left of a broken deletion is no backup
            shutil.rmtree(self._target / name)
        return old


async def run(data: Path, target: str, keep: int, every_s: float, ambient: Ambient) -> Outcome:
    """Make one backup if one is due. Errors are the outcome."""
    try:
        return await _run(data, target, keep, every_s, ambient)
    except OSError as error:
        return Outcome(error=f"{error.filename or target}: {error.strerror}")
    except (EventStoreError, HuahuoError) as error:
        return Outcome(error=str(error))


async def _run(data: Path, target: str, keep: int, every_s: float, ambient: Ambient) -> Outcome:
    if not keep:
        manifest = await back_up(data / DATABASE, Path(target), ambient)
        return Outcome(made=target, position=manifest.position)
    far = Objects(target) if target.startswith(SCHEME) else None
    near = data if far else Path(target)
    store = far or Folder(near)
    names = store.names()
    if names:
        left_s = every_s - (ambient.now_ms() - made_ms(names[-1])) / 1000
        if 0 < left_s <= every_s:
            return Outcome(due_in_s=left_s)
    near.mkdir(mode=0o700, parents=True, exist_ok=True)
    sweep_staging(near)
    _need_room(data, near)
    name = name_at(ambient.now_ms())
    with staged(near) as folder:
        made = folder / name
        manifest = await back_up(data / DATABASE, made, ambient)
        if far is not None:
            far.put(made, name)
            shutil.rmtree(made)
            made.mkdir()
            Objects(f"{target.rstrip('/')}/{name}").get(made)
        await _test(made, manifest, folder / "restored")
        if far is None:
            made.rename(near / name)
    return Outcome(made=name, position=manifest.position, deleted=tuple(store.keep(keep)))


def _need_room(data: Path, near: Path) -> None:
    free = shutil.disk_usage(near).free
    wanted = _COPIES * sum(file.stat().st_size for file in data.glob(f"{DATABASE}*")) + _ROOM
    if free < wanted:
        raise HuahuoError(f"{near}: {free >> 20} MiB are free, and a backup needs {(wanted >> 20) + 1} MiB")


async def _test(made: Path, manifest: Manifest, into: Path) -> None:
    """Restore the backup and compare where it ends. Raises EventStoreError: it could not be restored."""
    found = await put_back(made, into)
    if (found.log_id, found.position) != (manifest.log, manifest.position):
        raise EventStoreError(f"the restored copy ends at {found.position}, not at {manifest.position}")
    shutil.rmtree(into)


async def in_child(data: Path, target: str, keep: int = 0, every_s: float = 0.0) -> Outcome:
    """As `run`, in a process of its own, so that copying and checking delay no client."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "huahuo.storage.copying", str(data), target, str(keep), str(every_s),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        told, failed = await process.communicate()
    except asyncio.CancelledError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    try:
        return msgspec.json.decode(told, type=Outcome)
    except msgspec.MsgspecError:
        lines = failed.decode(errors="replace").strip().splitlines()
        return Outcome(error=lines[-1] if lines else f"it ended with {process.returncode}")


def main() -> None:
    """See the module."""
    data, target, keep, every_s = sys.argv[1:]
    os.nice(_NICE)
    outcome = asyncio.run(run(Path(data), target, int(keep), float(every_s), SystemAmbient()))
    sys.stdout.write(msgspec.json.encode(outcome).decode() + "\n")


if __name__ == "__main__":
    main()
