"""Backups, retention and erasure: what the service does about its data by schedule, by rule or when asked.

* Backups: when one is due, who makes it, and what is said if it fails.
* Retention: rules from a setting, one small step after the other.
* Erasing a user: everything about the user is removed, and what remains is listed with the reason. Order:
  the account and its keys first, so that nothing new comes; then what plug-ins keep; then the events of
  the user's own streams, which become tombstones; then command records, acks and keyframes.
"""

import asyncio
import functools
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from itertools import batched
from pathlib import Path
from typing import Final, Protocol

import msgspec
import structlog

from huahuo.actors.domain.storable import is_own_stream
from huahuo.actors.plugins.calls import UserId
from huahuo.actors.plugins.past import Past
from huahuo.actors.plugins.plugin import Forgotten
from huahuo.eventstore.ambient import Ambient, json_bytes, rfc3339
from huahuo.eventstore.care.pruning import BATCH_EVENTS, Facts, RetentionRule, prune
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.core.reader import AUDIT_STREAM
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.model import LOG_STREAM, Append, NewEvent, RowDrop, StoredEvent
from huahuo.eventstore.port import Log
from huahuo.storage.copying import Outcome, in_child, made_ms
from huahuo.terminal import seconds
from huahuo.transport.access.revocations import AUTH_STREAM
from huahuo.users.api_keys import KeyBook
from huahuo.users.book import UserBook

BACKED_UP: Final = "backed_up"
BACKUP_FAILED: Final = "backup_failed"
RETRY_S: Final = 300.0
"""After a failure, or the whole interval if that is shorter."""
_FIRST_S: Final = 1.0
_REASON_CHARS: Final = 500

_log = structlog.get_logger(__name__)

type MakeBackup = Callable[[], Awaitable[Outcome]]


def in_process(data: Path, target: str, keep: int, every_s: float) -> MakeBackup:
    """Makes a backup in a process of its own."""
    return functools.partial(in_child, data, target, keep, every_s)


class Backups:
    """Makes backups. `failure`: why the last one failed, None if it did not."""

    def __init__(self, log: Log, ambient: Ambient, make: MakeBackup, every_s: float) -> None:
        self.failure: str | None = None
        self.failures = 0
        self.made = 0
        self.newest_ms: int | None = None
        """When the newest backup was made, as far as this process knows."""
        self._log = log
        self._ambient = ambient
        self._make = make
        self._every_s = every_s

    @property
    def age_s(self) -> float:
        """Seconds since the newest backup; 0 if there is none that this process knows of."""
        return 0.0 if self.newest_ms is None else max(0.0, (self._ambient.now_ms() - self.newest_ms) / 1000)

    def sentence(self) -> str | None:
        """What `/readyz` adds after a failure."""
        return None if self.failure is None else f"the last backup failed: {self.failure}"

    async def once(self) -> float:
        """Make a backup if one is due. Returns the seconds until the next one is."""
        outcome = await self._make()
        if outcome.due_in_s:
            self.newest_ms = self._ambient.now_ms() - round((self._every_s - outcome.due_in_s) * 1000)
            return outcome.due_in_s
        if outcome.error:
            self.failures += 1
            self.failure = outcome.error[:_REASON_CHARS]
            _log.error("backup_failed", reason=self.failure)
            await self._record(BACKUP_FAILED, {"reason": self.failure})
            return min(RETRY_S, self._every_s)
        self.failure = None
        self.made += 1
        self.newest_ms = made_ms(outcome.made)
        _log.info("backed_up", backup=outcome.made, position=outcome.position, deleted=len(outcome.deleted))
        await self._record(BACKED_UP, {"backup": outcome.made, "position": outcome.position})
        return self._every_s

    async def _record(self, type_: str, said: dict[str, object]) -> None:
        now_ms = self._ambient.now_ms()
        body = json_bytes({"type": type_, "timestamp": rfc3339(now_ms), **said})
        event = NewEvent(AUDIT_STREAM, type_, body)
        try:
            await self._log.append(Append(ts_ms=now_ms, events=(event,), principal="service"))
        except EventStoreError as error:
            _log.warning("backup_not_recorded", reason=str(error))

    async def run(self) -> None:
        """Make backups. One that is being made at the end is given up."""
        wait_s = _FIRST_S
        while True:
            await asyncio.sleep(wait_s)
            wait_s = await self.once()


STEP_PAUSE_S: Final = 0.05
"""Between two steps. A step takes some 10 ms of the writer, so most of its time stays for others."""
SWEEP_S: Final = 10.0
"""Until the next look, when nothing was left to do."""
_SIZE: Final = re.compile(r"([1-9][0-9]*)(B|KiB|MiB|GiB)")
_UNITS: Final = {"B": 0, "KiB": 10, "MiB": 20, "GiB": 30}
_USER: Final = "user/"
_DURABLE: Final = "ds/"


def rules_of(texts: Sequence[str]) -> list[RetentionRule]:
    """The rules of the setting: `group/*=30d`, `chat/*=500MiB`, `ds/*=7d 1GiB`, `group/kept=forever`.

    Raises:
        ValueError: a text is no rule.
    """
    return [_rule_of(text) for text in texts]


def facts_of(past: Past, guarded: Collection[str]) -> Facts:
    """Which events may be removed. Of what users see and of entities, only superseded progress."""

    def is_free(stream: str) -> bool:
        if stream.startswith(_DURABLE):
            return True
        return not stream.startswith(_USER) and is_own_stream(stream, guarded)

    return Facts(is_free, past.prunable, past.series_of)


class Steps(Protocol):
    """Upkeep in small steps."""

    async def step(self) -> bool:
        """Do one. Returns whether there may be more now. Raises EventStoreError."""
        ...


async def retain(retention: Steps) -> None:
    """Apply the rules. What is left to do at the end is done after the next start."""
    while True:
        try:
            more = await retention.step()
        except EventStoreError as error:
            _log.warning("retention_failed", reason=str(error))
            more = False
        await asyncio.sleep(STEP_PAUSE_S if more else SWEEP_S)


def _rule_of(text: str) -> RetentionRule:
    streams, equals, bounds = (part.strip() for part in text.partition("="))
    older_than_ms: int | None = None
    bytes_max: int | None = None
    if not streams or not equals or not bounds:
        raise ValueError(f"{text[:60]!r} is no rule such as `group/*=30d` or `ds/*=7d 1GiB`")
    for bound in bounds.split():
        if bound == "forever":
            continue
        if size := _SIZE.fullmatch(bound):
            bytes_max = int(size[1]) << _UNITS[size[2]]
        else:
            older_than_ms = round(seconds(bound) * 1000)
    return RetentionRule(streams=streams, older_than_ms=older_than_ms, bytes_max=bytes_max)


ERASED: Final = "user_erased"
LEDGERS: Final = frozenset({"accounts", "api_keys", "webhooks"})
"""Streams of the service in which each event names its user. A user's events there go all together."""
_PAGE_EVENTS: Final = 256

type Step = Callable[[UserId], Awaitable[Forgotten]]
"""Removes what one part of the service keeps of a user."""


class Remains(msgspec.Struct, frozen=True):
    """What stays, and why."""

    what: str
    count: int
    why: str


class Erased(msgspec.Struct, frozen=True):
    """What became of a user."""

    user_id: UserId
    removed: dict[str, int]
    remains: list[Remains]


class _Named(msgspec.Struct):
    user_id: UserId | None = None


class Erasing:
    """Erasing a user: everything about the user is removed, and what remains is listed with the reason.

    `steps` come first, in order.
    """

    def __init__(
        self,
        log: StoreLog,
        ambient: Ambient,
        steps: Sequence[Step],
        pruned: Callable[[], Awaitable[None]],
    ) -> None:
        """`pruned` is called when events were pruned, for those who count events."""
        self._log = log
        self._ambient = ambient
        self._steps = tuple(steps)
        self._pruned = pruned

    async def erase(self, user_id: UserId, by: str) -> Erased:
        """Erase a user. If it is cut short, it can be repeated. Exceptions of the steps and the log pass."""
        removed: Counter[str] = Counter()
        own = f"user/{user_id}"
        streams = {own: None}
        for step in self._steps:
            forgotten = await step(user_id)
            removed.update(forgotten.counts)
            streams.update(dict.fromkeys(forgotten.streams))
        prefix = f"{_DURABLE}{own}/"
        durable = dict.fromkeys(self._log.streams(prefix))
        streams.update(durable)
        await self._end(streams, by)
        chosen, elsewhere, stay = await self._look(own, streams)
        for some in batched(chosen, BATCH_EVENTS):
            policy: dict[str, object] = {"erased": own}
            removed["events"] += await prune(self._log, some, policy, self._ambient, by)
        await self._log.forget_user(own, tuple(streams))
        await self._pruned()
        return Erased(user_id, dict(removed), _remains(elsewhere, stay, prefix, len(durable)))

    async def _end(self, streams: Collection[str], by: str) -> None:
        """Give each stream a newest event that says nothing, because the newest one is never pruned."""
        now_ms = self._ambient.now_ms()
        body = json_bytes({"type": ERASED, "timestamp": rfc3339(now_ms)})
        known = [stream for stream in streams if self._log.head(stream).seq]
        for some in batched(known, BATCH_EVENTS):
            rows = tuple(
                RowDrop("durable_streams", stream.removeprefix(_DURABLE))
                for stream in some
                if stream.startswith(_DURABLE)
            )
            events = tuple(NewEvent(stream, ERASED, body) for stream in some)
            await self._log.append(Append(ts_ms=now_ms, events=events, rows=rows, principal=by))
        record = json_bytes({"type": ERASED, "timestamp": rfc3339(now_ms), "streams": len(known)})
        event = NewEvent(AUDIT_STREAM, ERASED, record)
        await self._log.append(Append(ts_ms=now_ms, events=(event,), principal=by))

    async def _look(
        self, own: str, streams: Collection[str]
    ) -> tuple[list[StoredEvent], Counter[str], Counter[str]]:
        """One pass over the log: the events to prune, and how many stay, by kind and by stream."""
        chosen: list[StoredEvent] = []
        elsewhere: Counter[str] = Counter()
        stay: Counter[str] = Counter()
        user_id = own.partition("/")[2]
        after, upto = 0, self._log.position
        while after < upto:
            page = await self._log.read(LOG_STREAM, after, events_max=_PAGE_EVENTS)
            if not page:
                break
            after = page[-1].position
            for event in page:
                stream = event.stream
                if stream in streams or (stream in LEDGERS and _names(event.body, user_id)):
                    if event.seq < self._log.head(stream).seq:
                        chosen.append(msgspec.structs.replace(event, body=b""))
                    elif stream in LEDGERS:
                        stay[stream] += 1
                elif stream == AUTH_STREAM and _names(event.body, user_id):
                    stay[stream] += 1
                elif event.principal == own:
                    elsewhere[stream.partition("/")[0]] += 1
        return chosen, elsewhere, stay


def _names(body: bytes, user_id: str) -> bool:
    try:
        named = msgspec.json.decode(body, type=_Named).user_id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return named is not None and str(named) == user_id


def _remains(
    elsewhere: Mapping[str, int], stay: Mapping[str, int], prefix: str, durable: int
) -> list[Remains]:
    found = [
        Remains(
            f"events that the user caused on {kind}",
            count,
            "they belong to the audit" if kind == AUDIT_STREAM else "others read these streams, too",
        )
        for kind, count in sorted(elsewhere.items())
    ]
    for stream, count in sorted(stay.items()):
        why = "without them, tokens that were revoked would be good again"
        if stream != AUTH_STREAM:
            why = "the newest event of a stream stays, so that its numbers go on; it holds only numbers"
        found.append(Remains(f"events on {stream}", count, why))
    if durable:
        found.append(Remains(f"names of streams, {prefix}…", durable, "the hash chain covers them"))
    return [
        *found,
        Remains("notes of administrators", 1, "the audit keeps what they did; `user export` names the user"),
        Remains("tombstones and receipts", 1, "places and hashes, without content: they prove the rest"),
        Remains("backups", 1, "copies made before now hold all of it until you delete them"),
    ]


_BY = "service"


def account_steps(users: UserBook, keys: KeyBook) -> tuple[Step, ...]:
    """The account first, with its sessions. Raises ChangeRefused: it is the last administrator."""

    async def account(user_id: UserId) -> Forgotten:
        user = users.users.of(user_id)
        if user is None:
            await users.end_sessions(user_id, principal=_BY)
            return Forgotten()
        await users.remove(user.name, principal=_BY)
        return Forgotten({"accounts": 1})

    async def api_keys(user_id: UserId) -> Forgotten:
        mine = keys.state.all(user_id)
        for key in mine:
            await keys.revoke(key.key_id, by=_BY)
        return Forgotten({"api_keys": len(mine)})

    return account, api_keys


def ack_step(write_acks: Callable[[], Awaitable[None]]) -> Step:
    """The last step: acks of connections that have ended are written, so that they can be removed."""

    async def acks(_user_id: UserId) -> Forgotten:
        await write_acks()
        return Forgotten()

    return acks
