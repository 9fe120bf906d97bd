"""What `huahuo doctor` says of a log: whether it opens, its events, a durable write, and its invariants.

Also what it says of the directory of a node of several, whose log only that node writes; of followers
(how far behind, and what they could not deal with); of open effects; of shredded keys that the ordered
log still has; and, with `--check`, of the invariants of docs/invariants.md, asked over the whole log a
page at a time.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from huahuo.actors.effects.facts import TABLE, read_row
from huahuo.actors.followers import record
from huahuo.actors.plugins.plugin import Plugin
from huahuo.app import credentials, service_port
from huahuo.app.application import standard, unserved
from huahuo.app.config import Settings
from huahuo.app.nodes import DIFFERED_FILE, NODE_FILE
from huahuo.app.service_port import http_get, not_ready
from huahuo.build import BUILD
from huahuo.errors import copied_again, ways_on
from huahuo.eventstore.ambient import Ambient, rfc3339
from huahuo.eventstore.core.chain import merged
from huahuo.eventstore.core.reader import LogReader
from huahuo.eventstore.errors import Corrupt, Damaged, EventStoreError, InUse, Lost, WrongKey
from huahuo.eventstore.model import LOG_STREAM, StoredEvent, Tombstone
from huahuo.eventstore.port import Log
from huahuo.eventstore.sqlite.damage import DAMAGES_MAX, check_small, find_damage
from huahuo.eventstore.sqlite.directory_lock import LOCK, lock_to_change
from huahuo.eventstore.sqlite.log import SqliteLog, held_in
from huahuo.eventstore.sqlite.mark import MARK, check_loss, read_marks
from huahuo.eventstore.sqlite.schema import DATABASE
from huahuo.eventstore.sqlite.view import SqliteView
from huahuo.eventstore.verdict import Ends, Rule, Verdict
from huahuo.invariants import (
    AcksWithinStreams,
    ChainHolds,
    EffectsEndOnce,
    KeysNotWritten,
    NumbersFollow,
    TimersFireOnce,
)

_TIMEOUT_S = 2.0
_OLD_S = 3600.0
"""An effect that has been open for this long may never return."""
_ADVICE = "it may never return: look at it in the service's log, and end it with CancelEffects"


class Finding(msgspec.Struct, frozen=True):
    """`level`: `ok`, `warning` (works with limits) or `error` (will not work)."""

    level: str
    about: str
    text: str


def metrics_of(url: str, prefix: str) -> dict[str, float]:
    """The metrics of a running service whose names begin like this; none if it does not answer."""
    try:
        lines = http_get(url, "/metrics", _TIMEOUT_S).splitlines()
        return {line.split(" ")[0]: float(line.split(" ")[1]) for line in lines if line.startswith(prefix)}
    except (OSError, ValueError):
        return {}


def effects_of_service(url: str) -> Finding | None:
    """From the metrics of a running service."""
    told = metrics_of(url, "huahuo_effects_")
    count = int(told.get("huahuo_effects_open", 0))
    if not count:
        return None
    oldest_s = told.get("huahuo_effects_oldest_seconds", 0)
    return _told_effects(oldest_s, f"{count} open, the oldest for {age(oldest_s)}")


async def effects_of_log(log: Log, ambient: Ambient) -> Finding | None:
    """From the table of a log that no service has open. Raises as `Log.rows`."""
    rows = await log.rows(TABLE, "", limit=1)
    if not rows:
        return None
    oldest = read_row(rows[0][1])
    age_s = (ambient.now_ms() - oldest.since_ms) / 1000
    since = rfc3339(oldest.since_ms)
    return _told_effects(
        age_s,
        f"open, and go on with the service; the oldest is {oldest.effect} of {oldest.entity}, since {since}",
    )


def _told_effects(age_s: float, text: str) -> Finding:
    if age_s >= _OLD_S:
        return Finding("warning", "effects", f"{text}: {_ADVICE}")
    return Finding("ok", "effects", text)


def age(seconds: float) -> str:
    """A time in the unit that fits it."""
    for size, name in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.0f} s"


_STUCK_S = 600.0
"""A delivery that has been under way for this long may never return."""
_LOST = (
    "the place of {} is lost, so it does not run: stop the service and run `huahuo projections place {}"
    " --after POSITION` (0: everything is delivered again)"
)
_LIST = "see `huahuo projections list`"


def followers_of_service(url: str) -> Finding | None:
    """From the metrics of a running service."""
    told = metrics_of(url, "huahuo_followers")
    count = int(told.get("huahuo_followers", 0))
    if not count:
        return None
    busy_s = told.get("huahuo_followers_busy_seconds", 0)
    found = _told_followers(
        count,
        lag=int(told.get("huahuo_followers_lag_events", 0)),
        dead=int(told.get("huahuo_followers_dead_letters", 0)),
        paused=int(told.get("huahuo_followers_paused", 0)),
    )
    if busy_s < _STUCK_S:
        return found
    stuck = f"{found.text}; a delivery has been under way for {age(busy_s)}: it may never return"
    return Finding("warning", "followers", stuck)


async def followers_of_log(log: Log) -> Finding | None:
    """From the rows of a log that no service has open. Raises as `Log.rows`."""
    kept = [await record.standing(log, name) for name in await record.names(log)]
    if not kept:
        return None
    if lost := [one.name for one in kept if one.state == record.LOST]:
        return Finding("error", "followers", _LOST.format(", ".join(lost), lost[0]))
    return _told_followers(
        len(kept),
        lag=max(one.lag for one in kept),
        dead=sum(one.dead_letters for one in kept),
        paused=sum(one.state == "paused" for one in kept),
    )


def _told_followers(count: int, *, lag: int, dead: int, paused: int) -> Finding:
    text = f"{count}, the last of them {lag} events behind"
    if paused:
        text += f", {paused} paused"
    if dead:
        text += f", {dead} dead letters: {_LIST}, and `huahuo projections retry NAME`"
    elif paused:
        text += f": {_LIST}"
    return Finding("warning" if dead or paused else "ok", "followers", text)


SHREDS_LATE_S = 86_400.0
"""A shred is trimmed within a day."""


def shreds_of_service(url: str) -> Finding | None:
    """From the metrics of a running node."""
    told = metrics_of(url, "huahuo_shreds_untrimmed")
    if "huahuo_shreds_untrimmed" not in told:
        return None
    count, since_s = int(told["huahuo_shreds_untrimmed"]), told.get("huahuo_shreds_untrimmed_seconds", 0.0)
    if not count:
        return Finding("ok", "ordered log", "the ordered log has no key that was shredded")
    text = f"the ordered log still has the keys of {count} shreds, the oldest of {age(since_s)} ago"
    if since_s <= SHREDS_LATE_S:
        return Finding("ok", "ordered log", text)
    text += ": run `huahuo cluster trim`, which says what it waits for"
    return Finding("warning", "ordered log", text)


NONE_YET: Final = Finding("ok", "log", "none yet; the node gets a copy at its start, or follows the others")
"""Also where a first start was cut off: what it left in the log's file has no content to look at."""


def is_node_directory(settings: Settings) -> bool:
    """Whether the directory is that of a node, as far as what is in it can be read."""
    try:
        return bool(settings.log) or held_in(settings.data) is not None
    except Corrupt:
        return (settings.data / NODE_FILE).exists()
    except EventStoreError:
        return False


def node_findings(settings: Settings) -> list[Finding]:
    """Whether all is there that the node acknowledged, and where it stands. Only the lock is written.

    Raises:
        InUse: the node runs.
    """
    lock = lock_to_change(settings.data)
    try:
        check_loss(settings.data, lock.left, whole=not lock.lost_power)
        held = held_in(settings.data)
        if held is not None:
            check_small(settings.data / DATABASE, read_marks(settings.data) or [], lock.left)
    except Damaged as error:
        return [Finding("error", "log", f"{error}; {copied_again(settings.data)}")]
    except EventStoreError as error:
        return [Finding("error", "log", str(error))]
    finally:
        lock.leave(None)
    if held is None:
        return [NONE_YET]
    if lock.written_before:
        return [Finding("error", "log", f"{lock.written_before}; {copied_again(settings.data)}")]
    text = f"the replica of a node, id {held.log_id}, which has applied proposal {held.offset}"
    return [Finding("ok", "log", text), *_differs(settings)]


def _differs(settings: Settings) -> list[Finding]:
    """Why the node refuses to start on this directory."""
    noted = settings.data / DIFFERED_FILE
    if not noted.exists():
        return []
    reason = noted.read_text(encoding="utf-8", errors="replace").strip()
    return [Finding("error", "log", f"{reason}; {copied_again(settings.data)}")]


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


async def log_findings(settings: Settings, ambient: Ambient) -> AsyncIterator[Finding]:
    """Open the log, if no service has it open, and look at all that is in it."""
    path = settings.data / DATABASE
    if not any((settings.data / name).exists() for name in (DATABASE, LOCK, MARK)):
        yield Finding("ok", "log", "none yet; made at the first start")
        return
    of_node = is_node_directory(settings)
    restore = f"{_COPY}{copied_again(settings.data)}" if of_node else f"{_RESTORE}{_SERVED}"
    try:
        if of_node:
            findings = node_findings(settings)
            for finding in findings:
                yield finding
            if path.exists() and NONE_YET not in findings:
                for finding in _content(path, restore):
                    yield finding
            return
        log = await SqliteLog.open(
            settings.data, ambient=ambient, master_key=credentials.read_master_key(settings), build=BUILD
        )
    except InUse:
        yield _running(settings)
        service = service_port.read_address(settings.data)
        if service is not None:
            for told in (effects_of_service, followers_of_service, shreds_of_service):
                if (said := told(service.url)) is not None:
                    yield said
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
        yield Finding("error", "log", f"{error}: {credentials.OWN_KEY}")
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
        for one in (await effects_of_log(log, ambient), await followers_of_log(log)):
            if one is not None:
                yield one
        if text := unserved(log, standard()):
            yield Finding("warning", "plug-ins", text)
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
    service = service_port.read_address(settings.data)
    if service is None:
        return Finding("ok", "service", "another process has the log open")
    reason = not_ready(service.url)
    if reason:
        return Finding("error", "service", f"running at {service.url}, not ready: {reason}")
    return Finding("ok", "service", f"running at {service.url}")


_PAGE: Final = 2_000
_PAGE_BYTES: Final = 4 << 20


def invariant_rules(plugins: Iterable[Plugin] = ()) -> list[Rule]:
    """All rules that a log alone can show: ours, and those of plug-ins."""
    ours: list[Rule] = [
        NumbersFollow(),
        ChainHolds(),
        AcksWithinStreams(),
        EffectsEndOnce(),
        TimersFireOnce(),
    ]
    return [*ours, *(rule for plugin in plugins for rule in plugin.rules())]


async def check_rules(log: LogReader, asked: Sequence[Rule]) -> list[Verdict]:
    """The verdicts of these rules over a whole log. Raises as `LogReader.read`."""
    acks, heads = await log.acks(), {name: log.head(name).seq for name in log.streams("")}
    async for one in _whole(log, log.position):
        for rule in asked:
            rule.see(one)
    ends = Ends(heads, acks)
    return [rule.verdict(ends) for rule in asked]


async def _whole(log: LogReader, upto: int) -> AsyncIterator[StoredEvent | Tombstone]:
    """Events and tombstones up to this position, in their order."""
    at = 0
    while at < upto:
        events = await log.read(LOG_STREAM, at, events_max=_PAGE, bytes_max=_PAGE_BYTES)
        last = min(upto, events[-1].position) if events else upto
        stones: list[Tombstone] = []
        while page := await log.tombstones(stones[-1].position if stones else at, last, _PAGE):
            stones += page
        for one in merged([event for event in events if event.position <= last], stones):
            yield one
        at = last


_BROKEN = "Please report it with this line: the service should never write such a log"


async def invariant_findings(settings: Settings) -> list[Finding]:
    """A finding for each invariant. The log is read while a service runs, or from a private copy."""
    data = settings.data
    if not (data / DATABASE).is_file():
        return [Finding("ok", "invariants", "no log yet, so there is nothing to judge")]
    try:
        view = await SqliteView.open(data)
        try:
            kept = credentials.read_keys(settings)
            names = {"token key": kept.jwt_secret, "master key": kept.master_key}
            verdicts = await check_rules(view, [*invariant_rules(standard()), KeysNotWritten(names)])
        finally:
            await view.close()
    except EventStoreError as error:
        return [Finding("error", "invariants", f"not judged: {error}")]
    return [_finding(verdict) for verdict in verdicts]


def _finding(verdict: Verdict) -> Finding:
    if verdict.holds is False:
        return Finding("error", verdict.invariant, f"{verdict.text}. {_BROKEN}")
    state = "holds" if verdict.holds else "nothing to judge"
    return Finding("ok", verdict.invariant, f"{state}: {verdict.text}")
