"""One backup of the schedule, in a process of its own, so that copying and checking delay no client.

    python -m huahuo.storage.copying DATA TARGET KEEP EVERY_S

TARGET/2026-11-26T020304Z/    one backup, as `huahuo backup` makes it; TARGET may be s3://BUCKET/PREFIX

It prints one JSON object, an `Outcome`. A backup counts only after it was restored into a private folder and
checked there, event by event. Older ones are deleted only after that.
"""

import asyncio
import os
import re
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from huahuo.errors import HuahuoError
from huahuo.eventstore.ambient import Ambient, SystemAmbient, rfc3339
from huahuo.eventstore.care.backup import MANIFEST, Manifest, back_up, put_back
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.sqlite.schema import DATABASE
from huahuo.storage.objects import SCHEME, Objects
from huahuo.storage.staging import staged, sweep

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
    far = Objects(target) if target.startswith(SCHEME) else None
    near = data if far else Path(target)
    store = far or Folder(near)
    names = store.names()
    if names:
        left_s = every_s - (ambient.now_ms() - made_ms(names[-1])) / 1000
        if 0 < left_s <= every_s:
            return Outcome(due_in_s=left_s)
    near.mkdir(mode=0o700, parents=True, exist_ok=True)
    sweep(near)
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


def main() -> None:
    """See the module."""
    data, target, keep, every_s = sys.argv[1:]
    os.nice(_NICE)
    outcome = asyncio.run(run(Path(data), target, int(keep), float(every_s), SystemAmbient()))
    sys.stdout.write(msgspec.json.encode(outcome).decode() + "\n")


if __name__ == "__main__":
    main()
