"""`huahuo doctor`: checks everything a service needs and says how to correct each fault.

What `huahuo doctor` finds about settings and files around the log, without opening it.
"""

import asyncio
import contextlib
import os
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console

from huahuo.actors.domain.event_shapes import differences
from huahuo.app import credentials, foundation, service_port
from huahuo.app.application import chosen, projections, standard
from huahuo.app.config import Settings
from huahuo.app.foundation import must_be_files
from huahuo.build import BUILD
from huahuo.cli import doctor_log
from huahuo.cli.doctor_log import Finding, log_findings
from huahuo.dictionaries import zstd_dictionaries
from huahuo.errors import ConfigError, HuahuoError
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.sqlite.connections import sqlite_version
from huahuo.eventstore.sqlite.schema import DATABASE
from huahuo.eventstore.sqlite.view import SqliteView
from huahuo.options import table
from huahuo.pages.site import classic_site
from huahuo.storage.copying import SCHEME, Folder, Objects, made_ms
from huahuo.storage.upkeep import rules_of
from huahuo.transport.accounts.issuer_keys import refuse_url

_OLD: Final = 2.0
"""A backup older than twice the interval is overdue."""
_LEFT: Final = ("backup-*", "unfinished-*", "restoring", "*.restoring")


def of_settings(settings: Settings, ambient: Ambient) -> Iterator[Finding]:
    """Findings about settings that a start would refuse, about backups, and about what was left behind."""
    yield from _refused(settings)
    if settings.backup_to and settings.backup_every_s:
        yield _backups(settings, ambient)
    elif not settings.log:
        none = (
            "the service makes none: name a directory on another disk, or s3://BUCKET/PREFIX, in `backup_to`"
        )
        yield Finding("warning", "backups", none)
    yield from _left_behind(settings.data)
    service = service_port.read_address(settings.data)
    if service is not None and not lives(service.pid):
        text = f"{service_port.SERVICE_FILE} is of a process that is gone: the next start writes it anew"
        yield Finding("warning", "service", text)


def _refused(settings: Settings) -> Iterator[Finding]:
    try:
        rules_of(settings.retention)
    except ValueError as error:
        yield Finding("error", "retention", f"{error}. Mend the setting `retention`")
    if settings.classic_ui:
        try:
            classic_site(Path(settings.classic_ui))
        except ValueError as error:
            yield Finding("error", "pages", str(error))
    try:
        zstd_dictionaries.find_dictionaries(settings.data, settings.dictionary)
    except ConfigError as error:
        yield Finding("error", "dictionary", f"{error}. Mend the setting `dictionary`, or move the file away")
    if settings.jwks_url and (why := refuse_url(settings.jwks_url)):
        yield Finding("error", "tokens", f"jwks_url: {why}")
    if settings.durable_streams == "open" and settings.durable_streams_forced:
        text = "everybody who reaches the service may read and write /ds/: unset durable_streams_forced"
        yield Finding("warning", "streams", text)


def _backups(settings: Settings, ambient: Ambient) -> Finding:
    target = settings.backup_to
    if not target.startswith(SCHEME) and (why := unusable(Path(target).absolute())):
        return Finding("error", "backups", f"backup_to: {why}")
    try:
        names = Objects(target).names() if target.startswith(SCHEME) else Folder(Path(target)).names()
    except (OSError, HuahuoError) as error:
        return Finding("error", "backups", f"{error}")
    if not names:
        return Finding("warning", "backups", f"there is none at {target} yet: is the service running?")
    age_s = (ambient.now_ms() - made_ms(names[-1])) / 1000
    if age_s > _OLD * settings.backup_every_s:
        return Finding(
            "error",
            "backups",
            f"the newest at {target} is {age_s / 3600:.1f} h old: /readyz and the log of the service say why",
        )
    return Finding("ok", "backups", f"{len(names)} at {target}, the newest {age_s / 3600:.1f} h old")


def unusable(target: Path) -> str:
    """Why no directory can be made there by this user; "" if one can."""
    # What this user may not look into counts as not there; `Path.exists` raises.
    there = next(path for path in (target, *target.parents) if os.path.exists(path))  # noqa: PTH110
    if not there.is_dir():
        return f"{there} is no directory: name one, or move that file away"
    if not os.access(there, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        return f"this user ({os.geteuid()}) may not write in {there}: give it to the service's user"
    return ""


def _left_behind(data: Path) -> Iterator[Finding]:
    for pattern in _LEFT:
        for path in data.glob(pattern):
            text = f"{path} was left by a backup or restore that was cut short: remove it if none runs now"
            yield Finding("warning", "data", text)


def lives(pid: int) -> bool:
    """Whether there is a process of this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


_FREE_BYTES_MIN = 256 << 20
_CLOCK_MS_MIN = 1_767_225_600_000  # 2026-01-01: a clock with an earlier time was never set
_CONNECT_TIMEOUT_S = 2.0
_MAKE_ROOM = (
    "Delete files, enlarge the disk, or shorten `retention` and run `huahuo compact` on the stopped service"
)
_FILES = "files"
_STYLE = {"ok": "green", "warning": "yellow", "error": "red"}


async def examine(
    settings: Settings, ambient: Ambient, environ: Mapping[str, str], *, check: bool = False
) -> list[Finding]:
    """Check the programs, the clock, the directory with its keys and log, and the network.

    `check`: also judge the invariants that events alone can show.
    If no service has the log open, it is opened as by a service: its end is checked against the hash chain.
    """
    findings = [*_programs(), *_clock(ambient), *_public(settings), *_environment(environ)]
    if not settings.data.is_dir():
        missing = Finding("warning", "data", f"{settings.data} does not exist yet; `huahuo serve` makes it")
        if settings.data.exists() or settings.data.is_symlink():
            missing = Finding("error", "data", f"{settings.data} is no directory: name another one by --data")
        return [*findings, missing, await _port(settings)]
    findings += [*_directory(settings), *_files(settings)]
    if any(finding.about == _FILES for finding in findings):
        return [*findings, await _port(settings)]  # reading a pipe would not end
    findings += _keys(settings)
    findings += of_settings(settings, ambient)
    service = service_port.read_address(settings.data)
    if all(finding.level != "error" for finding in findings):
        findings += [finding async for finding in log_findings(settings, ambient)]
        findings += await _events(settings)
        if not any(
            credentials.OWN_KEY in finding.text for finding in findings
        ):  # else its mark cannot be compared
            findings += _token_key(settings, ambient)
        if check:
            findings += await doctor_log.invariant_findings(settings)
    if service is None or not lives(service.pid):
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


async def _events(settings: Settings) -> list[Finding]:
    """Which events of the log the application's classes cannot read."""
    with contextlib.suppress(EventStoreError, FileNotFoundError):  # the findings about the log say so
        view = await SqliteView.open(settings.data)
        try:
            kinds = chosen().entities.catalog.by_kind.values()
            return [Finding("error", "events", said) for said in await differences(view, kinds)]
        finally:
            await view.close()
    return []


def _keys(settings: Settings) -> Iterator[Finding]:
    try:
        credentials.read_keys(settings)
    except ConfigError as error:
        yield Finding("error", "keys", str(error))
        return
    for name in (credentials.JWT_FILE, credentials.MASTER_FILE):
        path = settings.data / name
        if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
            yield Finding("error", "keys", f"{path} can be read by others: chmod 600 {path}")
    yield Finding("ok", "keys", f"present; back up {credentials.MASTER_FILE} apart from the data")


def _token_key(settings: Settings, ambient: Ambient) -> list[Finding]:
    path = settings.data / DATABASE
    if settings.log or not path.exists():
        return []
    told = foundation.token_key_of_file(path, credentials.read_keys(settings), ambient.now_ms())
    return [Finding("warning", "keys", told)] if told else []


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
