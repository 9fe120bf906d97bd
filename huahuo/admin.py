"""Actions of administrators on the log, over the wire: `audit`, `audit_record`, `shred`, `compact`.

With them: the event that records an access to the log, and rows of the audit as they are shown. Of a
sealed secret only the name is shown.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import structlog
from msgspec import Meta

from huahuo import en, zh
from huahuo.actors.plugins.actions import Action, Id, OneAppend, Registry
from huahuo.actors.plugins.calls import Call, Refusal, Reply, error_reply, json_reply
from huahuo.actors.plugins.past import Past
from huahuo.eventstore.ambient import Ambient, json_bytes, rfc3339
from huahuo.eventstore.audit.index import Audit, IndexDamaged, Where
from huahuo.eventstore.audit.tables import Row
from huahuo.eventstore.care.pruning import CompactionPolicy, compact
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.core.reader import AUDIT_STREAM
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.executor import Executor
from huahuo.eventstore.limits import PAGE_ROWS_MAX
from huahuo.eventstore.model import Append, NewEvent, StoredEvent
from huahuo.terminal import moment
from huahuo.transport.protocol.codes import ErrorCode

RECORDED = "audit_recorded"
WHAT_BYTES_MAX = 16 << 10


def recorded_event(action: str, what: Mapping[str, object], now_ms: int) -> NewEvent:
    """The event that records an action and its query.

    Raises:
        ValueError: `what` is larger than `WHAT_BYTES_MAX`.
    """
    body = json_bytes({"type": RECORDED, "timestamp": rfc3339(now_ms), "action": action, "what": dict(what)})
    if len(body) > WHAT_BYTES_MAX:
        raise ValueError(f"what: at most {WHAT_BYTES_MAX} bytes")
    return NewEvent(AUDIT_STREAM, RECORDED, body)


_WIRE = ("position", "stream", "seq", "type", "timestamp", "principal", "command_id", "cause")


def wire_row(row: Row, past: Past) -> dict[str, Any]:
    """The fields of PROTOCOL 9."""
    return {name: getattr(row, name) for name in _WIRE} | {"data": data_of(row, past)}


def plain_row(row: Row, past: Past) -> dict[str, Any]:
    """All fields of a row, for the command line. `version` is that of the stored event."""
    fields = msgspec.structs.asdict(row)
    return fields | {"data": data_of(row, past)}


def data_of(row: Row, past: Past) -> dict[str, Any]:
    """The event's fields as today's version of its type has them; as stored, if the upcast fails."""
    body = bytes(row.data)
    event = StoredEvent(
        row.position, row.stream, row.seq, row.type, body, row.version, 0, row.entity, row.principal,
        row.command_id, row.cause, row.build, b"",
    )  # fmt: skip
    with contextlib.suppress(Exception):  # an application's code; `replay check` says what is wrong
        body = past.today(event).body
    fields: dict[str, Any] = msgspec.json.decode(body)
    return past.shown(row.type, fields)


SHREDDED = "secrets_shredded"
BEHIND_EVENTS_MAX = 20_000
"""A query waits for at most this many unindexed events, else it is answered `busy`."""
_VALUES_MAX = 100
_DONE = json_bytes({"type": "success", "message": zh.DONE})

_log = structlog.get_logger(__name__)


class AuditWhere(msgspec.Struct, frozen=True, kw_only=True):
    """The `where` of PROTOCOL 9. All conditions that are given must hold.

    `audit_params` adds the fields of plug-ins that name an entity, such as `email_id`.
    """

    stream: str = ""
    type: Annotated[tuple[str, ...], Meta(max_length=_VALUES_MAX)] = ()
    principal: str = ""
    entity: str = ""
    command_id: str = ""
    since: str = ""
    until: str = ""
    text: str = ""


class AuditParams(msgspec.Struct, frozen=True, kw_only=True):
    """Fields of `audit`, besides `where`."""

    after: Annotated[int, Meta(ge=0)] = 0
    limit: Annotated[int, Meta(ge=1, le=PAGE_ROWS_MAX)] = 100


class RecordParams(msgspec.Struct, frozen=True, kw_only=True):
    """Fields of `audit_record`."""

    doing: Annotated[str, Meta(min_length=1, max_length=100)]
    what: dict[str, Any] = {}


class ShredParams(msgspec.Struct, frozen=True, kw_only=True):
    """Fields of `shred`. `shred_params` adds the fields of plug-ins that name an entity."""

    entity: str = ""


class CompactParams(msgspec.Struct, frozen=True, kw_only=True):
    """Fields of `compact`."""

    older_than_s: Annotated[float, Meta(ge=0)]
    keep: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    types: Annotated[tuple[str, ...], Meta(min_length=1, max_length=_VALUES_MAX)] | None = None
    """None: all types of which folds need only the newest event."""


def audit_params(past: Past) -> type:
    """The fields of `audit`, with those of plug-ins that name an entity."""
    where = msgspec.defstruct(
        "AuditWhere", _entity_fields(past), bases=(AuditWhere,), frozen=True, kw_only=True
    )
    return msgspec.defstruct(
        "AuditParams", [("where", where, where())], bases=(AuditParams,), frozen=True, kw_only=True
    )


def shred_params(past: Past) -> type:
    """The fields of `shred`, with those of plug-ins that name an entity."""
    return msgspec.defstruct(
        "ShredParams", _entity_fields(past), bases=(ShredParams,), frozen=True, kw_only=True
    )


def _entity_fields(past: Past) -> list[tuple[str, Any, Any]]:
    return [(name, Id | None, None) for name in past.entity_fields]


class LogCare:
    """The actions on one log. The first query opens the index. `past`: of the plug-ins."""

    def __init__(
        self,
        log: StoreLog,
        ambient: Ambient,
        *,
        index: Path | None,
        past: Past,
        executor: Executor | None = None,
    ) -> None:
        self._past = past
        self._log = log
        self._ambient = ambient
        self._path = index
        self._executor = executor
        self._audit: Audit | None = None
        self._opening = asyncio.Lock()
        self.building: asyncio.Task[None] | None = None
        self._compacting = asyncio.Lock()

    def register(self, registry: Registry) -> None:
        """Register the actions, for admins only, and what they say."""
        registry.words.add(zh, en)
        registry.command(Action("audit", audit_params(self._past), self._query, query=True, admin=True))
        registry.command(Action("audit_record", RecordParams, self._record, admin=True, frees=True))
        registry.command(Action("shred", shred_params(self._past), self._shred, admin=True, frees=True))
        registry.command(Action("compact", CompactParams, self._compact, admin=True, frees=True))

    async def close(self) -> None:
        """Stop building the index and close it."""
        if self.building is not None:
            self.building.cancel()
            await asyncio.wait((self.building,))
        if self._audit is not None:
            await self._audit.close()

    async def _query(self, call: Call[Any]) -> Reply:
        asked = call.params
        try:
            where = where_of(asked.where, self._past)
        except ValueError as error:
            return _invalid(str(error))
        upto = self._log.position  # excludes the event that records this query
        try:
            event = recorded_event(
                "audit", {**where.described(), "after": asked.after}, self._ambient.now_ms()
            )
        except ValueError as error:
            return _invalid(str(error))
        # A query is executed again for a repeated id, so its append has no record.
        await self._log.append(
            Append(
                ts_ms=self._ambient.now_ms(),
                events=(event,),
                principal=call.principal.name,
                command_id=call.command_id,
            )
        )
        audit = await self._opened()
        if await audit.behind() > BEHIND_EVENTS_MAX:
            return self._not_yet(audit, await audit.behind())
        await audit.catch_up()
        try:
            page = await audit.page(where, after=asked.after, upto=upto, limit=asked.limit)
        except IndexDamaged:
            return self._not_yet(audit, await audit.behind())
        except ValueError as error:
            return _invalid(str(error))
        rows = [wire_row(row, self._past) for row in page.rows]
        return json_reply({"type": "audit_result", "rows": rows, "next": page.next})

    def _record(self, call: Call[RecordParams]) -> OneAppend | Reply:
        asked = call.params
        try:
            event = recorded_event(asked.doing, asked.what, self._ambient.now_ms())
        except ValueError as error:
            return _invalid(str(error))
        return self._done(event)

    def _shred(self, call: Call[ShredParams]) -> OneAppend | Reply:
        try:
            owner = entity_of(call.params, self._past)
        except ValueError as error:
            return _invalid(str(error))
        if not owner:
            names = ", ".join((*self._past.entity_fields, "entity"))
            return _invalid(f"one of these must be given: {names}")
        if not self._log.head(owner).seq:
            return error_reply(Refusal(ErrorCode.NOT_FOUND, zh.NO_OWNER))
        return self._done(shredding(owner, self._ambient.now_ms()), shred=(owner,))

    async def _compact(self, call: Call[CompactParams]) -> Reply:
        asked = call.params
        try:
            policy = policy_of(asked, self._past, self._ambient.now_ms())
        except ValueError as error:
            return _invalid(str(error))
        if self._compacting.locked():
            return error_reply(Refusal(ErrorCode.BUSY, zh.COMPACTING))
        async with self._compacting:
            pruned = await compact(self._log, policy, self._ambient, call.principal.name)
        return json_reply({"type": "success", "message": zh.COMPACTED, "pruned": pruned})

    def _done(self, event: NewEvent, shred: tuple[str, ...] = ()) -> OneAppend:
        return OneAppend(self._ambient.now_ms(), (event,), _DONE, shred)

    async def _opened(self) -> Audit:
        async with self._opening:
            if self._audit is None:
                self._audit = await Audit.open(self._log, self._path, self._executor)
            return self._audit

    def _not_yet(self, audit: Audit, behind: int) -> Reply:
        """Build the index in the background, and answer `busy` with the number of events left."""
        if self.building is None or self.building.done():
            self.building = asyncio.create_task(self._build(audit), name="audit index")
        return error_reply(Refusal(ErrorCode.BUSY, zh.INDEXING, f"the index has {behind} events to read"))

    @staticmethod
    async def _build(audit: Audit) -> None:
        try:
            await audit.catch_up()
        except EventStoreError as error:
            _log.warning("audit_index_not_built", reason=str(error))


def entity_of(asked: AuditWhere | ShredParams, past: Past) -> str:
    """The entity that is named by `entity` or by a plug-in's field, "" if none is.

    Raises:
        ValueError: two fields name different entities.
    """
    entity = asked.entity
    for name, kind in past.entity_fields.items():
        number = getattr(asked, name)
        if number is not None:
            if entity not in ("", f"{kind}/{number}"):
                raise ValueError(f"{name}: another {kind} than entity names")
            entity = f"{kind}/{number}"
    return entity


def where_of(asked: AuditWhere, past: Past) -> Where:
    """The query in the form that the index takes.

    Raises:
        ValueError: a time is malformed, or two fields name different entities.
    """
    return Where(
        stream=asked.stream,
        types=asked.type,
        principal=asked.principal,
        entity=entity_of(asked, past),
        command_id=asked.command_id,
        since=moment(asked.since),
        until=moment(asked.until),
        text=asked.text,
    )


def policy_of(asked: CompactParams, past: Past, now_ms: int) -> CompactionPolicy:
    """The policy for pruning; `past` says which types are no facts, and which end a stream.

    Raises:
        ValueError: a named type holds facts.
    """
    types = past.prunable if asked.types is None else frozenset(asked.types)
    if facts := types - past.prunable:
        raise ValueError(f"types: {', '.join(sorted(facts))} cannot be pruned")
    before_ms = now_ms - round(asked.older_than_s * 1000)
    return CompactionPolicy(
        types=types, before_ms=before_ms, keep=asked.keep, last=past.last, series=past.series_of
    )


def shredding(owner: str, now_ms: int) -> NewEvent:
    """The receipt of a destroyed key."""
    body = json_bytes({"type": SHREDDED, "timestamp": rfc3339(now_ms), "owner": owner})
    return NewEvent(AUDIT_STREAM, SHREDDED, body, entity=owner)


def _invalid(details: str) -> Reply:
    return error_reply(Refusal(ErrorCode.INVALID_FIELD, zh.INVALID_FIELD, details))
