"""The bodies of commands on a whole directory or user: backup, restore, salvage, compact and others.

Also `user erase`, `user export` and `cluster adopt`. `adopt` makes the directory of a single service the
first node of an ordered log, which must be empty: its birth then names this directory's log. What the
directory holds is in no proposal, so every further node begins with a copy of one that has it.
"""

import contextlib
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import typer

from huahuo.actors.plugins.calls import UserId, user_id_of
from huahuo.actors.plugins.past import Past
from huahuo.admin import CompactParams, policy_of
from huahuo.app import credentials
from huahuo.app.application import standard
from huahuo.app.config import Settings
from huahuo.app.nodes import address_of, node_name, sequencer_of
from huahuo.app.wiring import App
from huahuo.audit.audited_log import ask_service, do, looking, principal, reading, record, writing
from huahuo.audit.commands import must_be_original
from huahuo.build import BUILD
from huahuo.errors import ConfigError, HuahuoError
from huahuo.eventstore.ambient import Ambient, SystemAmbient, json_bytes, rfc3339
from huahuo.eventstore.audit.proof import KEY_FILE
from huahuo.eventstore.care.backup import MANIFEST, Manifest, back_up, placing, put_back, shrink, taken_out_of
from huahuo.eventstore.care.pruning import compact as compact_log
from huahuo.eventstore.care.salvage import salvage as read_salvageable
from huahuo.eventstore.care.verify import Verified
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.core.reader import AUDIT_STREAM, LogReader, receipt
from huahuo.eventstore.core.seal import Vault, derive
from huahuo.eventstore.errors import Damaged, EventStoreError
from huahuo.eventstore.executor import InlineExecutor
from huahuo.eventstore.limits import EVENT_BYTES_MAX
from huahuo.eventstore.model import Append, NewEvent
from huahuo.eventstore.port import Log
from huahuo.eventstore.replicated import proposal
from huahuo.eventstore.replicated.proposal import Birth
from huahuo.eventstore.sequencer.port import InDoubt, Sequencer, SequencerError, Trimmed
from huahuo.eventstore.sqlite.connections import unusable
from huahuo.eventstore.sqlite.directory_lock import lock_to_change
from huahuo.eventstore.sqlite.log import SqliteLog, become_replica, is_replica, larger_event
from huahuo.eventstore.sqlite.mark import missing_from
from huahuo.eventstore.sqlite.schema import DATABASE
from huahuo.refusals import ChangeRefused
from huahuo.storage.copying import SCHEME, Objects, name_at
from huahuo.terminal import printable, show_json
from huahuo.users.book import UserBook
from huahuo.users.users import User

RESTORED = "restored"
SALVAGED = "salvaged"
COMPACT_TIMEOUT_S = 3600.0
_KEY_FILES = (credentials.JWT_FILE, credentials.MASTER_FILE, KEY_FILE)


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
        print(f"    without {credentials.MASTER_FILE} and the other keys: keep those apart")  # noqa: T201


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
        new = await _begun(
            settings, ambient, staged, RESTORED, {"log": found.log_id, "position": found.position}
        )
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
            secrets = credentials.read_keys(settings)
            found = read_salvageable(source, staged, Vault(secrets.master_key, ambient).mark())
            told = list(found.sentences())
            more = (receipt(found.lost, {"salvage": True}, ambient.now_ms()),) if found.lost else ()
            body = {"position": found.position, "lost": told}
            new = await _begun(settings, ambient, staged, SALVAGED, body, *more)
    finally:
        lock.leave(None)
    if as_json:
        show_json({"log": new, "position": found.position, "lost": told})
        return
    count = found.position - len(found.lost)
    print(f"salvaged {count} events into {settings.data}; the log's id is now {new}")  # noqa: T201
    for line in told:
        print(f"    {line}")  # noqa: T201


async def _begun(
    settings: Settings, ambient: Ambient, staged: Path, type_: str, said: dict[str, Any], *more: NewEvent
) -> str:
    """Give the log in `staged` a new id, which is returned, and record what was done."""
    key, now_ms = credentials.read_keys(settings).master_key, ambient.now_ms()
    log = await SqliteLog.open(staged, ambient=ambient, master_key=key, build=BUILD, restored=True)
    try:
        body = json_bytes({"type": type_, "timestamp": rfc3339(now_ms), **said})
        events = NewEvent(AUDIT_STREAM, type_, body), *more
        await log.append(Append(ts_ms=now_ms, events=events, principal=principal()))
        return log.log_id
    finally:
        await log.close()


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

    async def on_log(log: StoreLog) -> dict[str, Any]:
        return {"pruned": await compact_log(log, policy, ambient, principal()), "alone": True}

    fields = {"older_than_s": older_than_s, "keep": keep, "types": list(types)}
    reply = await do(settings, on_log, "compact", timeout_s=COMPACT_TIMEOUT_S, **fields)
    if "alone" in reply:
        shrink(settings.data / DATABASE)
    pruned = reply.get("pruned")
    if as_json:
        show_json({"pruned": pruned})
    else:
        print(f"pruned {pruned} events")  # noqa: T201


def _need_keys(settings: Settings, source: Path) -> None:
    """Raise ConfigError with what to do if neither settings, backup nor directory hold the keys."""
    for name, given in (
        (credentials.JWT_FILE, settings.jwt_secret),
        (credentials.MASTER_FILE, settings.master_key),
    ):
        if not given and not any((folder / name).is_file() for folder in (source, settings.data)):
            raise ConfigError(
                f"the backup has no {name}: copy {credentials.JWT_FILE} and {credentials.MASTER_FILE}"
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


ERASE_TIMEOUT_S: Final = 3600.0
_PAGE_EVENTS: Final = 256


async def erase_user(settings: Settings, name: str | None, user_id: str | None, *, as_json: bool) -> None:
    """Erase a user through the running service. If none runs, one is started here that does not listen.

    Raises:
        ConfigError: the directory is a copy, or no user is named. HuahuoError: it was refused.
    """
    must_be_original(settings)
    if (name is None) == (user_id is None):
        raise ConfigError("name one user: NAME, or --user-id for a user of another issuer's tokens")
    async with writing(settings) as log:
        runs = log is None
    if runs:
        fields = {"name": name} if name is not None else {"user_id": user_id}
        told: dict[str, Any] = await ask_service(settings, "erase_user", timeout_s=ERASE_TIMEOUT_S, **fields)
    else:
        credentials.read_keys(settings)
        app = App(settings, SystemAmbient(), plugins=standard(), listen=False)
        await app.start()
        try:
            told = msgspec.to_builtins(await app.storing.erase(user_id, name, principal()))
        except ChangeRefused as refused:
            raise HuahuoError(str(refused)) from None
        finally:
            await app.stop()
    _show(told, as_json=as_json)


async def export_user(
    settings: Settings, ambient: Ambient, name: str | None, user_id: str | None, target: Path, past: Past
) -> None:
    """Write a zip of all that is kept of a user, without secrets, to the new file `target`.

    Raises:
        ConfigError: there is no log, or no such user. HuahuoError: it cannot be read.
    """
    if (name is None) == (user_id is None):
        raise ConfigError("name one user: NAME, or --user-id for a user of another issuer's tokens")
    async with looking(settings, "user export", {"user": name or user_id}) as place:
        log = place.log
        account = None if name is None else await _account(log, ambient, name)
        found: UserId | None = user_id_of(user_id) if account is None else account.user_id
        if found is None:
            raise ConfigError(f"there is no user {name or user_id!r}")
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            about = {"user_id": found, "account": None if account is None else msgspec.to_builtins(account)}
            archive.writestr("user.json", msgspec.json.encode(about))
            archive.writestr("events.jsonl", await _events(log, found, past))
            async for path, content in past.belongings(cast("Log", log), found):
                archive.writestr(path, content)
            typer.echo(f"wrote {len(archive.namelist())} files to {target}")


async def _account(log: LogReader, ambient: Ambient, name: str) -> User:
    book = UserBook(cast("Log", log), ambient, InlineExecutor())
    await book.catch_up()
    user = book.users.named(name)
    if user is None:
        raise ConfigError(f"there is no user {name!r}: give --user-id for a user of another issuer's tokens")
    return user


async def _events(log: LogReader, user_id: UserId, past: Past) -> bytes:
    """The user's events, one a line, as audits show them."""
    lines, stream, after = list[bytes](), f"user/{user_id}", 0
    while page := await log.read(stream, after, events_max=_PAGE_EVENTS):
        after = page[-1].seq
        for event in page:
            fields = past.shown(event.type, msgspec.json.decode(event.body))
            lines.append(msgspec.json.encode({"stream": stream, "seq": event.seq, **fields}))
    return b"\n".join([*lines, b""])


def _show(told: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        kept = {name: told[name] for name in ("user_id", "removed", "remains")}
        typer.echo(msgspec.json.encode(kept).decode())
        return
    removed = ", ".join(f"{count} {what}" for what, count in told["removed"].items() if count)
    typer.echo(printable(f"erased user {told['user_id']}: {removed or 'nothing was kept'}"))
    for one in told["remains"]:
        typer.echo(printable(f"    stays: {one['count']} {one['what']}: {one['why']}"))


async def adopt(settings: Settings, ambient: Ambient, tell: Callable[[str], object]) -> None:
    """Make `settings.data` the first node of the ordered log `settings.log`; `tell` what to do next.

    Run again, it goes on where it was stopped.

    Raises:
        ConfigError: there is no log, or no address; or the directory is a node's already.
        HuahuoError: an event is too large for a cluster; the ordered log is in use.
    """
    address = address_of(settings)
    if address is None:
        raise ConfigError("name the ordered log: --log postgres://… or nats://…")
    if not (settings.data / DATABASE).is_file():
        raise ConfigError(f"there is no log in {settings.data}: an empty directory needs no adoption")
    secrets = credentials.read_keys(settings)
    if is_replica(settings.data):
        raise ConfigError(f"{settings.data} is a node's already: start it by `huahuo serve --log …`")
    sequencer = await sequencer_of(settings, address, ambient)
    try:
        log = await SqliteLog.open(settings.data, ambient=ambient, master_key=secrets.master_key, build=BUILD)
        try:
            if (found := larger_event(settings.data, EVENT_BYTES_MAX)) is not None:
                position, stream, kind, size = found
                raise HuahuoError(
                    f"the event {position} ({kind} of {stream}) has {size} bytes, and a cluster takes"
                    f" {EVENT_BYTES_MAX}: it can't be adopted while the log has that event"
                )
            made = Birth(proposal.BIRTH_FORMAT, log.log_id, max(1, log.position))
            await _bear(sequencer, made, derive(secrets.master_key, "proposals"))
            chain = log.writer.place.chain
        finally:
            await log.close()
    except EventStoreError as error:
        raise HuahuoError(str(error)) from error
    except SequencerError as error:
        raise HuahuoError(f"{address}: {error}") from error
    finally:
        await sequencer.close()
    become_replica(settings.data, chain)
    node = node_name(settings, ambient)
    tell(f"{settings.data} is the node {node} now: start it by `huahuo serve --log …`; others begin empty")


async def _bear(sequencer: Sequencer, made: Birth, key: bytes) -> None:
    """Make it the first proposal. One of an earlier run counts too, and so does one that is there twice.

    An ordered log on a slow disk is asked again before it answers, and keeps both.
    """
    if await sequencer.last() == 0:
        try:
            await sequencer.propose(proposal.dump_birth(made, key))
        except InDoubt as error:
            raise HuahuoError(f"{error}: run `huahuo cluster adopt` again") from None
    if not await _holds_only(sequencer, made.log_id, key):
        raise HuahuoError("the ordered log is in use already: use an empty one, for example ?name=shop")


async def _holds_only(sequencer: Sequencer, log_id: str, key: bytes) -> bool:
    """Whether the ordered log has nothing but births of this log."""
    last = await sequencer.last()
    with suppress(Trimmed, EventStoreError):
        async with aclosing(sequencer.follow(0)) as following:
            async for ordered in following:
                born = proposal.load_birth(ordered.proposal, key)
                if born is None or born.log_id != log_id:
                    break
                if ordered.offset >= last:
                    return True
    return False
