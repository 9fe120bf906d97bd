"""What `huahuo doctor` finds about settings and files around the log, without opening it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from huahuo.app import service_file
from huahuo.app.config import Settings
from huahuo.dictionaries import found
from huahuo.errors import ConfigError, HuahuoError
from huahuo.eventstore.ambient import Ambient
from huahuo.pages.classic import classic
from huahuo.storage.copying import Folder, made_ms
from huahuo.storage.objects import SCHEME, Objects
from huahuo.storage.retaining import rules_of
from huahuo.transport.accounts.issuer_keys import refuse_url

_OLD: Final = 2.0
"""A backup older than twice the interval is overdue."""
_LEFT: Final = ("backup-*", "unfinished-*", "restoring", "*.restoring")

type Told = tuple[str, str, str]
"""Level, subject and text of a finding."""


def of_settings(settings: Settings, ambient: Ambient) -> Iterator[Told]:
    """Findings about settings that a start would refuse, about backups, and about what was left behind."""
    yield from _refused(settings)
    if settings.backup_to and settings.backup_every_s:
        yield _backups(settings, ambient)
    elif not settings.log:
        none = (
            "the service makes none: name a directory on another disk, or s3://BUCKET/PREFIX, in `backup_to`"
        )
        yield "warning", "backups", none
    yield from _left_behind(settings.data)
    service = service_file.read(settings.data)
    if service is not None and not lives(service.pid):
        text = f"{service_file.FILE} is of a process that is gone: the next start writes it anew"
        yield "warning", "service", text


def _refused(settings: Settings) -> Iterator[Told]:
    try:
        rules_of(settings.retention)
    except ValueError as error:
        yield "error", "retention", f"{error}. Mend the setting `retention`"
    if settings.classic_ui:
        try:
            classic(Path(settings.classic_ui))
        except ValueError as error:
            yield "error", "pages", str(error)
    try:
        found.find(settings.data, settings.dictionary)
    except ConfigError as error:
        yield "error", "dictionary", f"{error}. Mend the setting `dictionary`, or move the file away"
    if settings.jwks_url and (why := refuse_url(settings.jwks_url)):
        yield "error", "tokens", f"jwks_url: {why}"
    if settings.durable_streams == "open" and settings.durable_streams_forced:
        text = "everybody who reaches the service may read and write /ds/: unset durable_streams_forced"
        yield "warning", "streams", text


def _backups(settings: Settings, ambient: Ambient) -> Told:
    target = settings.backup_to
    if not target.startswith(SCHEME) and (why := unusable(Path(target).absolute())):
        return "error", "backups", f"backup_to: {why}"
    try:
        names = Objects(target).names() if target.startswith(SCHEME) else Folder(Path(target)).names()
    except (OSError, HuahuoError) as error:
        return "error", "backups", f"{error}"
    if not names:
        return "warning", "backups", f"there is none at {target} yet: is the service running?"
    age_s = (ambient.now_ms() - made_ms(names[-1])) / 1000
    if age_s > _OLD * settings.backup_every_s:
        return (
            "error",
            "backups",
            f"the newest at {target} is {age_s / 3600:.1f} h old: /readyz and the log of the service say why",
        )
    return "ok", "backups", f"{len(names)} at {target}, the newest {age_s / 3600:.1f} h old"


def unusable(target: Path) -> str:
    """Why no directory can be made there by this user; "" if one can."""
    # What this user may not look into counts as not there; `Path.exists` raises.
    there = next(path for path in (target, *target.parents) if os.path.exists(path))  # noqa: PTH110
    if not there.is_dir():
        return f"{there} is no directory: name one, or move that file away"
    if not os.access(there, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        return f"this user ({os.geteuid()}) may not write in {there}: give it to the service's user"
    return ""


def _left_behind(data: Path) -> Iterator[Told]:
    for pattern in _LEFT:
        for path in data.glob(pattern):
            text = f"{path} was left by a backup or restore that was cut short: remove it if none runs now"
            yield "warning", "data", text


def lives(pid: int) -> bool:
    """Whether there is a process of this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
