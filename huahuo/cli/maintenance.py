"""The bodies of `huahuo backup`, `restore`, `salvage` and `compact`."""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from huahuo.actors.plugins.past import Past
from huahuo.admin.actions import CompactParams, policy_of
from huahuo.app import keys
from huahuo.app.config import Settings
from huahuo.audit.bodies import must_be_original
from huahuo.audit.place import reading
from huahuo.audit.record import ask_service, principal, record, writing
from huahuo.audit.show import show_json
from huahuo.build import BUILD
from huahuo.errors import ConfigError, HuahuoError
from huahuo.eventstore.ambient import Ambient, json_bytes, rfc3339
from huahuo.eventstore.audit.checkpoint import KEY_FILE
from huahuo.eventstore.care.backup import MANIFEST, Manifest, back_up, put_back, shrink, taken_out_of
from huahuo.eventstore.care.compaction import compact as compact_log
from huahuo.eventstore.care.placing import placing
from huahuo.eventstore.care.salvage import salvage as read_salvageable
from huahuo.eventstore.care.verify import Verified
from huahuo.eventstore.core.receipts import AUDIT_STREAM, receipt
from huahuo.eventstore.core.seal import Vault
from huahuo.eventstore.errors import Damaged, EventStoreError
from huahuo.eventstore.model import Append, NewEvent
from huahuo.eventstore.sqlite.directory_lock import lock_to_change
from huahuo.eventstore.sqlite.faults import unusable
from huahuo.eventstore.sqlite.loss import missing_from
from huahuo.eventstore.sqlite.open import SqliteLog
from huahuo.eventstore.sqlite.schema import DATABASE
from huahuo.storage.copying import name_at
from huahuo.storage.objects import SCHEME, Objects

RESTORED = "restored"
SALVAGED = "salvaged"
COMPACT_TIMEOUT_S = 3600.0
_KEY_FILES = (keys.JWT_FILE, keys.MASTER_FILE, KEY_FILE)


async def backup(
    settings: Settings, ambient: Ambient, target: str, *, with_keys: bool, keep: int, as_json: bool
) -> None:
    """Copy the log to the new directory `target`, or into a folder of its own below `s3://BUCKET/PREFIX`.

    `keep`: how many backups stay in the object store; 0 deletes none.

    Raises:
        ConfigError: there is no log. EventStoreError: the target cannot be made. Damaged: see that class.
        HuahuoError: the object store refused.
    """
    if keep and not target.startswith(SCHEME):
        raise ConfigError(f"--keep is for backups in an object store ({SCHEME}…); {target} is a directory")
    deleted: list[str] = []
    if target.startswith(SCHEME):
        objects = Objects(target)
        name = name_at(ambient.now_ms())
        with _staging(settings.data) as staged:
            manifest, copied = await _back_up(settings, ambient, staged / name, with_keys=with_keys)
            target = objects.put(staged / name, name)
        deleted = objects.keep(keep) if keep else []
    else:
        manifest, copied = await _back_up(settings, ambient, Path(target), with_keys=with_keys)
    if as_json:
        told = {"log": manifest.log, "position": manifest.position, "target": target, "keys": copied}
        show_json(told | {"deleted": deleted})
        return
    print(f"backed up {manifest.position} events to {target}")  # noqa: T201
    if deleted:
        print(f"    deleted {len(deleted)} older: {', '.join(deleted)}")  # noqa: T201
    if not with_keys:
        print(f"    without {keys.MASTER_FILE} and the other keys: keep those apart")  # noqa: T201


async def _back_up(
    settings: Settings, ambient: Ambient, target: Path, *, with_keys: bool
) -> tuple[Manifest, list[str]]:
    """Copy the log to a new directory; returns what it holds, and the names of the copied keys.

    The data directory is only read. A running service records the access, if it can write.
    """
    async with reading(settings, beside=target) as place:
        if place.live:
            try:
                await record(settings, "backup", {"keys": with_keys})
            except HuahuoError as error:
                print(f"huahuo: the log does not record this backup: {error}", file=sys.stderr)  # noqa: T201
        manifest = await back_up(place.path, target, ambient)
    return manifest, _copy_keys(settings.data, target) if with_keys else []


async def restore(settings: Settings, ambient: Ambient, source: str, *, as_json: bool) -> None:
    """Put a checked backup into `settings.data` and give the log a new id.

    `source`: a directory; or `s3://BUCKET/PREFIX/NAME`, or `s3://BUCKET/PREFIX` for the newest there.

    Raises:
        ConfigError: there is no backup, or no key for it. EventStoreError: there is a log already. Damaged.
        HuahuoError: the object store refused.
    """
    if not source.startswith(SCHEME):
        await _restore(settings, ambient, Path(source), source, as_json=as_json)
        return
    with _staging(settings.data) as staged:
        Objects(source).get(staged)
        await _restore(settings, ambient, staged, source, as_json=as_json)


@contextlib.contextmanager
def _staging(data: Path) -> Iterator[Path]:
    """A folder for what is on its way to or from an object store: next to the log, if that can be written."""
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    here = data if os.access(data, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="backup-", dir=here) as made:
        yield Path(made)


def _must_be_readable(source: Path) -> None:
    """Raises ConfigError: this user may not read a file of the backup, which is not damaged by that."""
    try:
        for name in (DATABASE, f"{DATABASE}-wal", MANIFEST):
            if (source / name).is_file():
                (source / name).open("rb").close()
    except PermissionError as error:
        raise ConfigError(str(unusable(error, source))) from None


async def _restore(settings: Settings, ambient: Ambient, source: Path, named: str, *, as_json: bool) -> None:
    """`named`: what the backup in `source` is called, where that is a copy which goes."""
    _must_be_readable(source)
    if not (source / DATABASE).is_file():
        raise ConfigError(f"there is no backup in {source}: name a directory that `huahuo backup` made")
    missing = missing_from(source)
    _need_keys(settings, source)
    # Under its former id it must not be served, so it is not there yet.
    with placing(settings.data, source) as staged:
        found = await _put_back(source, staged, named)
        missing = missing or taken_out_of(source, found)
        _copy_keys(source, settings.data)
        secrets = keys.read(settings)
        log = await SqliteLog.open(
            staged, ambient=ambient, master_key=secrets.master_key, build=BUILD, restored=True
        )
        try:
            now_ms = ambient.now_ms()
            body = {
                "type": RESTORED,
                "timestamp": rfc3339(now_ms),
                "log": found.log_id,
                "position": found.position,
            }
            event = NewEvent(AUDIT_STREAM, RESTORED, json_bytes(body))
            await log.append(Append(ts_ms=now_ms, events=(event,), principal=principal()))
            new = log.log_id
        finally:
            await log.close()
    if as_json:
        show_json({"log": new, "before": found.log_id, "position": found.position, "missing": missing})
    else:
        print(f"restored {found.position} events into {settings.data}; the log's id is now {new}")  # noqa: T201
    if missing:
        print(f"    what was restored is not all: {missing}", file=sys.stderr)  # noqa: T201


async def salvage(settings: Settings, ambient: Ambient, source: Path, *, as_json: bool) -> None:
    """Make a log in `settings.data` of what can be read of the damaged one in `source`, under a new id.

    Raises:
        ConfigError: there is no log, or no key for it. InUse: a service runs on it.
        EventStoreError: nothing can be read, or there is a log already.
    """
    if not (source / DATABASE).is_file():
        raise ConfigError(f"there is no log in {source}")
    _must_be_readable(source)
    _need_keys(settings, source)
    lock = lock_to_change(source)
    try:
        with placing(settings.data, source) as staged:
            _copy_keys(source, settings.data)
            secrets = keys.read(settings)
            found = read_salvageable(source, staged, Vault(secrets.master_key, ambient).mark())
            log = await SqliteLog.open(
                staged, ambient=ambient, master_key=secrets.master_key, build=BUILD, restored=True
            )
            try:
                now_ms, told = ambient.now_ms(), list(found.sentences())
                body = {
                    "type": SALVAGED,
                    "timestamp": rfc3339(now_ms),
                    "position": found.position,
                    "lost": told,
                }
                events = [NewEvent(AUDIT_STREAM, SALVAGED, json_bytes(body))]
                if found.lost:
                    events.append(receipt(found.lost, {"salvage": True}, now_ms))
                await log.append(Append(ts_ms=now_ms, events=tuple(events), principal=principal()))
                new = log.log_id
            finally:
                await log.close()
    finally:
        lock.leave(None)
    if as_json:
        show_json({"log": new, "position": found.position, "lost": told})
        return
    count = found.position - len(found.lost)
    print(f"salvaged {count} events into {settings.data}; the log's id is now {new}")  # noqa: T201
    for line in told:
        print(f"    {line}")  # noqa: T201


async def _put_back(source: Path, into: Path, named: str) -> Verified:
    """Raises Damaged with what to do, and `put_back`'s others. `named`: as of `_restore`."""
    try:
        return await put_back(source, into)
    except Damaged as error:
        told = (
            f"the backup {named} is damaged, and nothing was restored: {error}. Take an older one; if"
            " there is none, take what can be read of this one: huahuo salvage"
        )
        error.args = (told,)
        raise


async def compact(
    settings: Settings,
    ambient: Ambient,
    older_than_s: float,
    keep: int,
    types: tuple[str, ...],
    past: Past,
    *,
    as_json: bool,
) -> None:
    """Prune through the running service. If none runs, prune under the writer's lock and shrink the file.

    `past`: what the plug-ins know of event types.

    Raises:
        ConfigError: the directory is a copy, or a named type holds facts. HuahuoError: the service refused.
    """
    must_be_original(settings)
    asked = CompactParams(older_than_s=older_than_s, keep=keep, types=types)
    try:
        policy = policy_of(asked, past, ambient.now_ms())
    except ValueError as error:
        raise ConfigError(str(error)) from None
    pruned: object = None
    async with writing(settings) as log:
        if log is not None:
            pruned = await compact_log(log, policy, ambient, principal())
    if pruned is not None:
        shrink(settings.data / DATABASE)
    else:
        reply = await ask_service(
            settings, "compact", timeout_s=COMPACT_TIMEOUT_S,
            older_than_s=older_than_s, keep=keep, types=list(types),
        )  # fmt: skip
        pruned = reply.get("pruned")
    if as_json:
        show_json({"pruned": pruned})
    else:
        print(f"pruned {pruned} events")  # noqa: T201


def _need_keys(settings: Settings, source: Path) -> None:
    """Raise ConfigError with what to do if neither settings, backup nor directory hold the keys."""
    for name, given in ((keys.JWT_FILE, settings.jwt_secret), (keys.MASTER_FILE, settings.master_key)):
        if not given and not any((folder / name).is_file() for folder in (source, settings.data)):
            raise ConfigError(
                f"the backup has no {name}: copy {keys.JWT_FILE} and {keys.MASTER_FILE}"
                f" of the backed-up directory into {settings.data}, and restore again"
            )


def _copy_keys(source: Path, target: Path) -> list[str]:
    """Copy the key files that `source` has and `target` lacks, with mode 0600.

    Raises:
        EventStoreError: one could not be copied; no part of it is left.
    """
    copied = [name for name in _KEY_FILES if (source / name).is_file() and not (target / name).exists()]
    for name in copied:
        try:
            shutil.copyfile(source / name, target / name)
            (target / name).chmod(0o600)
        except OSError as error:
            (target / name).unlink(missing_ok=True)
            raise EventStoreError(f"cannot copy {name}: {error.strerror}") from None
    return copied
