"""`huahuo doctor`: checks everything a service needs and says how to correct each fault."""

import asyncio
import shutil
import stat
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import msgspec
from rich.console import Console

from huahuo.app import keys, service_file, token_key
from huahuo.app.config import Settings
from huahuo.app.data_files import must_be_files
from huahuo.app.plugins import projections, standard
from huahuo.audit.record import principal
from huahuo.build import BUILD
from huahuo.cli import (
    behind_followers,
    doctor_settings,
    invariants,
    node_directory,
    open_effects,
    untrimmed,
)
from huahuo.cli.ask import not_ready
from huahuo.cli.finding import Finding
from huahuo.errors import ConfigError, copied_again, ways_on
from huahuo.eventstore.ambient import Ambient, json_bytes, rfc3339
from huahuo.eventstore.core.receipts import AUDIT_STREAM
from huahuo.eventstore.errors import Corrupt, Damaged, EventStoreError, InUse, Lost, WrongKey
from huahuo.eventstore.model import LOG_STREAM, Append, NewEvent
from huahuo.eventstore.sqlite.damage import DAMAGES_MAX, find_damage
from huahuo.eventstore.sqlite.directory_lock import LOCK
from huahuo.eventstore.sqlite.mark import MARK
from huahuo.eventstore.sqlite.open import SqliteLog
from huahuo.eventstore.sqlite.remaking import LOSS_STRIDE
from huahuo.eventstore.sqlite.schema import DATABASE, sqlite_version
from huahuo.options import table

_FREE_BYTES_MIN = 256 << 20
_CLOCK_MS_MIN = 1_767_225_600_000  # 2026-01-01: a clock with an earlier time was never set
_CONNECT_TIMEOUT_S = 2.0
_AHEAD_S = 3600.0
_REBUILD = "Stop the service and run `huahuo doctor --rebuild`"
_RESTORE = (
    "It cannot be made again from what is whole: stop the service and `huahuo restore` a backup into a new"
    " directory. Until then "
)
_BY_OTHERS = (
    "If nobody meant to, `huahuo restore` a backup into a new directory. This is said once: the file counts"
    " as it is now from the next start on"
)
_COPY = "It cannot be made again from what is whole: stop the node; "
_SERVED = "what is damaged is refused, and the rest is served"
_NOT_SERVED = "the service does not start"
_MAKE_ROOM = (
    "Delete files, enlarge the disk, or shorten `retention` and run `huahuo compact` on the stopped service"
)
_FILES = "files"
_STYLE = {"ok": "green", "warning": "yellow", "error": "red"}


LOSS_ACCEPTED = "loss_accepted"


async def examine(
    settings: Settings, ambient: Ambient, environ: Mapping[str, str], *, check: bool = False
) -> list[Finding]:
    """Check the programs, the clock, the directory with its keys and log, and the network.

    `check`: also judge the invariants that events alone can show.
    If no service has the log open, it is opened as by a service: its end is checked against the hash chain.
    """
    findings = [*_programs(), *_clock(ambient), *_public(settings), *_environment(environ)]
    if not settings.data.is_dir():
        return [
            *findings,
            Finding("warning", "data", f"{settings.data} does not exist yet; `huahuo serve` makes it"),
            await _port(settings),
        ]
    findings += [*_directory(settings), *_files(settings)]
    if any(finding.about == _FILES for finding in findings):
        return [*findings, await _port(settings)]  # reading a pipe would not end
    findings += _keys(settings)
    findings += [Finding(*told) for told in doctor_settings.of_settings(settings, ambient)]
    service = service_file.read(settings.data)
    if all(finding.level != "error" for finding in findings):
        findings += [finding async for finding in _log(settings, ambient)]
        if not any(keys.OWN_KEY in finding.text for finding in findings):  # else its mark cannot be compared
            findings += _token_key(settings, ambient)
        if check:
            findings += await invariants.judged(settings)
    if service is None or not doctor_settings.lives(service.pid):
        findings.append(await _port(settings))
    return findings


def show(findings: list[Finding], *, as_json: bool, console: Console) -> None:
    """Print the findings, in colour on a terminal."""
    if as_json:
        sys.stdout.write(msgspec.json.encode(findings).decode() + "\n")
        return
    for finding in findings:
        console.print(f"[{_STYLE[finding.level]}]{finding.level:>7}[/]  {finding.about}: ", end="")
        console.print(finding.text, markup=False, soft_wrap=True)


def _programs() -> Iterator[Finding]:
    yield Finding("ok", "huahuo", BUILD)
    yield Finding("ok", "Python", sys.version.split()[0])
    yield Finding("ok", "SQLite", f"{sqlite_version()} (only the writer's connection checkpoints)")


def _clock(ambient: Ambient) -> Iterator[Finding]:
    if ambient.now_ms() < _CLOCK_MS_MIN:
        yield Finding("error", "clock", "the machine's clock is far in the past: tokens cannot be checked")
    else:
        yield Finding("ok", "clock", "plausible")


def _public(settings: Settings) -> Iterator[Finding]:
    if settings.host not in ("127.0.0.1", "::1", "localhost"):
        yield Finding(
            "warning",
            "network",
            f"{settings.host} without TLS: put a TLS proxy in front and keep this address private",
        )
    for plugin in standard():
        for text in plugin.warnings(settings.plugins.get(plugin.name)):
            yield Finding("warning", plugin.name, text)


def _environment(environ: Mapping[str, str]) -> Iterator[Finding]:
    for name in table().unknown_variables(environ):
        yield Finding("warning", "environment", f"{name} is no setting of this version: a slip of the pen?")


def _directory(settings: Settings) -> Iterator[Finding]:
    mode = stat.S_IMODE(settings.data.stat().st_mode)
    if mode & 0o077:
        yield Finding(
            "warning", "data", f"{settings.data} is open to others (mode {mode:o}): chmod 700 {settings.data}"
        )
    else:
        yield Finding("ok", "data", f"{settings.data}, mode {mode:o}")
    free = shutil.disk_usage(settings.data).free
    if free >= max(_FREE_BYTES_MIN, settings.disk_low_bytes):
        yield Finding("ok", "disk", f"{free >> 20} MiB free")
        return
    text = f"{free >> 20} MiB free: what stores more is refused, or soon will be. {_MAKE_ROOM}"
    yield Finding("error", "disk", text)


def _files(settings: Settings) -> Iterator[Finding]:
    try:
        must_be_files(settings, projections().values())
    except ConfigError as error:
        yield Finding("error", _FILES, str(error))


def _keys(settings: Settings) -> Iterator[Finding]:
    try:
        keys.read(settings)
    except ConfigError as error:
        yield Finding("error", "keys", str(error))
        return
    for name in (keys.JWT_FILE, keys.MASTER_FILE):
        path = settings.data / name
        if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
            yield Finding("error", "keys", f"{path} can be read by others: chmod 600 {path}")
    yield Finding("ok", "keys", f"present; back up {keys.MASTER_FILE} apart from the data")


def _token_key(settings: Settings, ambient: Ambient) -> list[Finding]:
    path = settings.data / DATABASE
    if settings.log or not path.exists():
        return []
    told = token_key.of_file(path, keys.read(settings), ambient.now_ms())
    return [Finding("warning", "keys", told)] if told else []


async def _log(settings: Settings, ambient: Ambient) -> AsyncIterator[Finding]:
    path = settings.data / DATABASE
    if not any((settings.data / name).exists() for name in (DATABASE, LOCK, MARK)):
        yield Finding("ok", "log", "none yet; made at the first start")
        return
    of_node = node_directory.is_one(settings)
    restore = f"{_COPY}{copied_again(settings.data)}" if of_node else f"{_RESTORE}{_SERVED}"
    try:
        if of_node:
            findings = node_directory.examined(settings)
            for finding in findings:
                yield finding
            if path.exists() and node_directory.NONE_YET not in findings:
                for finding in _content(path, restore):
                    yield finding
            return
        log = await SqliteLog.open(
            settings.data, ambient=ambient, master_key=keys.read_master_key(settings), build=BUILD
        )
    except InUse:
        yield _running(settings)
        service = service_file.read(settings.data)
        if service is not None:
            for about, told in (
                ("effects", open_effects.of_service(service.url)),
                ("followers", behind_followers.of_service(service.url)),
                ("ordered log", untrimmed.of_service(service.url)),
            ):
                if told is not None:
                    yield Finding(told[0], about, told[1])
        for finding in _content(path, restore):
            yield finding
        return
    except Lost as error:
        yield Finding("error", "log", f"{error}; {ways_on(settings.data)}")
        return
    except Damaged as error:
        yield Finding("error", "log", str(error))
        for finding in _content(path, f"{_RESTORE}{_NOT_SERVED}"):
            yield finding
        return
    except WrongKey as error:
        yield Finding("error", "log", f"{error}: {keys.OWN_KEY}")
        return
    except EventStoreError as error:
        yield Finding("error", "log", str(error))
        return
    try:
        yield Finding(
            "ok", "log", f"id {log.log_id}, {log.position} events, the newest agree with the hash chain"
        )
        for finding in await _times(log, ambient):
            yield finding
        for damaged in log.corruption.places.values():
            yield Finding("error", "log", damaged)
        if log.written_by_others:
            yield Finding("error", "log", f"{log.written_by_others}. {_BY_OTHERS}")
        reason = await log.probe()
        if reason == log.corruption.sentence():
            reason = None
        yield Finding("error" if reason else "ok", "write", reason or "a durable write works")
        if (told := await open_effects.of_log(log, ambient)) is not None:
            yield Finding(told[0], "effects", told[1])
        if (told := await behind_followers.of_log(log)) is not None:
            yield Finding(told[0], "followers", told[1])
    except Corrupt as error:
        yield Finding("error", "log", str(error))
    finally:
        await log.close()
    for finding in _content(path, restore):
        yield finding


async def _times(log: SqliteLog, ambient: Ambient) -> list[Finding]:
    """Whether the clock stands where the log's events came from."""
    newest = await log.read(LOG_STREAM, max(0, log.position - 1), events_max=1)
    ahead_s = (newest[-1].ts_ms - ambient.now_ms()) / 1000 if newest else 0.0
    if ahead_s < _AHEAD_S:
        return []
    text = f"the newest event is {ahead_s / 3600:.1f} h in the future: set the machine's clock (NTP)"
    return [Finding("warning", "clock", f"{text}; until then new tokens may be refused as revoked")]


def _content(path: Path, restore: str) -> Iterator[Finding]:
    """Verify every page, row and event of the database. `restore`: what helps if a rebuild does not."""
    damages = find_damage(path)
    if not damages:
        yield Finding("ok", "content", "every event, row and place in the index fits its check")
        return
    for damage in damages:
        way = _REBUILD if damage.can_rebuild else restore
        yield Finding("error", "content", f"{damage.text}. {way}")
    if len(damages) >= DAMAGES_MAX:
        yield Finding("error", "content", "perhaps there is more: not everything was looked at")


async def accept_loss(settings: Settings, ambient: Ambient) -> str:
    """Continue with the rest of a log that lost its end, under a new id. Returns a sentence for the user.

    Raises:
        ConfigError: there is no key for it. EventStoreError: no event is lost, or no event is usable.
    """
    log = await SqliteLog.open(
        settings.data,
        ambient=ambient,
        master_key=keys.read_master_key(settings),
        build=BUILD,
        accept_loss=True,
    )
    try:
        position, now_ms = log.position, ambient.now_ms()
        body = {"type": LOSS_ACCEPTED, "timestamp": rfc3339(now_ms), "position": position}
        event = NewEvent(AUDIT_STREAM, LOSS_ACCEPTED, json_bytes(body))
        await log.append(Append(ts_ms=now_ms, events=(event,), principal=principal()))
    finally:
        await log.close()
    return (
        f"the log goes on behind position {position} with the new id {log.log_id}; clients are reset,"
        f" and new numbers begin {LOSS_STRIDE} higher"
    )


def _running(settings: Settings) -> Finding:
    """The finding about a service that has the log open, from its own answer."""
    service = service_file.read(settings.data)
    if service is None:
        return Finding("ok", "service", "another process has the log open")
    reason = not_ready(service.url)
    if reason:
        return Finding("error", "service", f"running at {service.url}, not ready: {reason}")
    return Finding("ok", "service", f"running at {service.url}")


async def _port(settings: Settings) -> Finding:
    where = f"{settings.host}:{settings.port}"
    try:
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            _reader, writer = await asyncio.open_connection(settings.host, settings.port)
    except (OSError, TimeoutError):
        return Finding("ok", "port", f"{where} is free")
    writer.close()
    return Finding(
        "error", "port", f"something listens on {where} already: stop it, or serve with another --port"
    )
