"""What `huahuo doctor` says of the log: whether it opens, its newest and all its events, a durable write."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from huahuo.app import keys, service_file
from huahuo.app.ask import not_ready
from huahuo.app.config import Settings
from huahuo.app.plugins import standard, unserved
from huahuo.build import BUILD
from huahuo.cli import behind_followers, node_directory, open_effects, untrimmed
from huahuo.cli.finding import Finding
from huahuo.errors import copied_again, ways_on
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.errors import Corrupt, Damaged, EventStoreError, InUse, Lost, WrongKey
from huahuo.eventstore.model import LOG_STREAM
from huahuo.eventstore.sqlite.damage import DAMAGES_MAX, find_damage
from huahuo.eventstore.sqlite.directory_lock import LOCK
from huahuo.eventstore.sqlite.mark import MARK
from huahuo.eventstore.sqlite.open import SqliteLog
from huahuo.eventstore.sqlite.schema import DATABASE

_AHEAD_S = 3600.0
_RESTORE = (
    "Stop the service and `huahuo restore` a backup into a new directory; if there is none, `huahuo salvage`"
    " takes what can be read. Until then "
)
_BY_OTHERS = (
    "If nobody meant to, `huahuo restore` a backup into a new directory. This is said once: the file counts"
    " as it is now from the next start on"
)
_COPY = "Stop the node; "
_SERVED = "what is damaged is refused, and the rest is served"
_NOT_SERVED = "the service does not start"


async def of_log(settings: Settings, ambient: Ambient) -> AsyncIterator[Finding]:
    """Open the log, if no service has it open, and look at all that is in it."""
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
        yield Finding("error", "log", f"{error}; {ways_on(settings.data)}")
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
        for about, told in (
            ("effects", await open_effects.of_log(log, ambient)),
            ("followers", await behind_followers.of_log(log)),
            ("plug-ins", unserved(log, standard())),
        ):
            if told is not None:
                yield Finding(told[0], about, told[1])
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
    """Verify every page, row and event of the database. `restore`: what helps."""
    damages = find_damage(path)
    if not damages:
        yield Finding("ok", "content", "every event, row and place in the index fits its check")
        return
    for damage in damages:
        yield Finding("error", "content", f"{damage}. {restore}")
    if len(damages) >= DAMAGES_MAX:
        yield Finding("error", "content", "perhaps there is more: not everything was looked at")


def _running(settings: Settings) -> Finding:
    """The finding about a service that has the log open, from its own answer."""
    service = service_file.read(settings.data)
    if service is None:
        return Finding("ok", "service", "another process has the log open")
    reason = not_ready(service.url)
    if reason:
        return Finding("error", "service", f"running at {service.url}, not ready: {reason}")
    return Finding("ok", "service", f"running at {service.url}")
