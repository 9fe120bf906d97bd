"""Erasing a user: everything about the user is removed, and what remains is listed with the reason.

Order: the account and its keys first, so that nothing new comes; then what plug-ins keep; then the events of
the user's own streams, which become tombstones; then command records, acks and keyframes.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from itertools import batched
from typing import Final

import msgspec

from huahuo.actors.plugins.plugin import Forgotten
from huahuo.actors.plugins.principal import UserId
from huahuo.eventstore.ambient import Ambient, json_bytes, rfc3339
from huahuo.eventstore.care.pruning import BATCH_EVENTS, prune
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.core.receipts import AUDIT_STREAM
from huahuo.eventstore.model import LOG_STREAM, Append, NewEvent, RowDrop, StoredEvent
from huahuo.transport.access.revocations import AUTH_STREAM

ERASED: Final = "user_erased"
LEDGERS: Final = frozenset({"accounts", "api_keys", "webhooks"})
"""Streams of the service in which each event names its user. A user's events there go all together."""
_DURABLE: Final = "ds/"
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
    """See the module. `steps` come first, in order."""

    def __init__(
        self, log: StoreLog, ambient: Ambient, steps: Sequence[Step], pruned: Callable[[], object]
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
        self._pruned()
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
