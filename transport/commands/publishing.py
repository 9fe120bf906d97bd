"""Events from admins and embedding applications: `publish`, `notify`, `revoke`.

Each call is one append: the event, and the command's record if it has an id. The snapshots of the streams
written here (`group/<name>`, `system`) are made here too.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Annotated, Any

import msgspec

from huahuo.actors.plugins.actions import Action, OneAppend, Registry
from huahuo.actors.plugins.calls import (
    Call,
    Principal,
    Refusal,
    RefuseGrowth,
    Reply,
    UserId,
    error_reply,
    from_record,
)
from huahuo.eventstore.ambient import Ambient, json_bytes
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.model import LOG_STREAM, Append, Appended, CommandRecord, Duplicate, NewEvent
from huahuo.eventstore.port import Log
from huahuo.transport.access.claims import Latest, own_clock
from huahuo.transport.access.revocations import AUTH_STREAM, REVOKED
from huahuo.transport.commands.published_events import (
    NOTIFICATION,
    SYSTEM_STREAM,
    EventMaker,
    PublishRefused,
    TypesOfUsers,
    refuse_revocation,
)
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.protocol.incoming import EVENTS_MAX, ListedEvent
from huahuo.transport.words import en, zh

RECENT_EVENTS = 50

_SNAPSHOT_BYTES_MAX = 15 << 20
"""Below the 16 MiB of a snapshot's bound. The oldest of the recent events are left out to keep it."""

_SERVICE = "service"
_PUBLISHED = json_bytes({"type": "success", "message": zh.PUBLISHED})
_REVOKED = json_bytes({"type": "success", "message": zh.REVOKED})


type MayPublish = Callable[[Principal, str], Awaitable[bool]]
"""Whether a user may write this stream now."""


class _One(msgspec.Struct, frozen=True):
    stream: str
    type: str
    fields: dict[str, Any] = {}


class _Listed(msgspec.Struct, frozen=True):
    """The fields of a `publish` of several events."""

    events: Annotated[list[_One], msgspec.Meta(min_length=1, max_length=EVENTS_MAX)]


class Publisher:
    """Appends events that belong to no entity. `registry` knows the types reserved for domains."""

    def __init__(
        self,
        log: Log,
        ambient: Ambient,
        registry: Registry,
        may_publish: MayPublish | None = None,
        latest_ms: Latest = own_clock,
    ) -> None:
        """`may_publish`: which streams others than administrators may write; None: none.

        `latest_ms`: up to when a revocation ends a user's tokens.
        """
        self._latest_ms = latest_ms
        self._may_publish = may_publish
        self._log = log
        self._ambient = ambient
        self._registry = registry
        self._maker = EventMaker(registry)
        self._types = TypesOfUsers(log.has_type)
        self.refuse_growth: RefuseGrowth | None = None
        """Asked before the service itself publishes. The gate asks for clients."""
        self.here: Callable[[], str] | None = None
        """The place in a trace from which the service itself publishes, "" for none. None: nobody traces."""

    def register(self) -> None:
        """Offer the actions `publish` and `revoke` and the snapshots of `group`, `system` and `log`."""
        self._registry.command(
            Action("publish", dict, self._publish_command, admin=self._may_publish is None)
        )
        self._registry.command(Action("revoke", dict, self._revoke_command, admin=True, frees=True))
        self._registry.snapshot("group", self.recent)
        self._registry.snapshot(SYSTEM_STREAM, self.recent)
        self._registry.snapshot(LOG_STREAM, self._whole_log)
        self._registry.events(NOTIFICATION)

    async def publish(
        self,
        stream: str,
        type: str,  # noqa: A002  the wire's word
        fields: Mapping[str, Any],
        principal: str = _SERVICE,
    ) -> tuple[str, int, int]:
        """Append one event to a stream that applications may write; returns its (stream, seq, position).

        It returns when the event is durable.

        Raises:
            PublishRefused: the stream, the type or a field is not allowed, the event is too large, or the
                disk is nearly full.
            EventStoreError: as `Log.append`.
        """
        return await self.publish_many(((stream, type, fields),), principal)

    async def publish_many(
        self, events: Iterable[tuple[str, str, Mapping[str, Any]]], principal: str = _SERVICE
    ) -> tuple[str, int, int]:
        """Append (stream, type, fields) of each event in one commit; returns the place of the last.

        Raises as `publish`. If one event is refused, none is written.
        """
        return place_of_last(await self.submit_many(events, principal))

    def submit_many(
        self, events: Iterable[tuple[str, str, Mapping[str, Any]]], principal: str = _SERVICE
    ) -> asyncio.Future[Appended | Duplicate]:
        """As `publish_many`; the future says where they are.

        Raises:
            PublishRefused: see `publish`.
            EventStoreError: as `Log.submit`.
        """
        append, size = self.append_of_many(events, principal, "" if self.here is None else self.here())
        return self._log.submit(append, events_bytes=size)

    def append_of_many(
        self,
        events: Iterable[tuple[str, str, Mapping[str, Any]]],
        principal: str = _SERVICE,
        trace: str = "",
    ) -> tuple[Append, int]:
        """The append of `publish_many`, and the bytes of its bodies. Raises PublishRefused.

        `trace`: the place of the span from which it is published (`here`), if anybody traces.
        """
        if self.refuse_growth is not None:
            self._need_room(principal)
        now_ms = self._ambient.now_ms()
        made, size = self._maker.make(events, now_ms)
        if not made:
            raise PublishRefused(
                Refusal(ErrorCode.INVALID_FIELD, zh.INVALID_FIELD, f"events: {en.NO_EVENTS}")
            )
        return Append(ts_ms=now_ms, events=made, principal=principal, command_id=trace), size

    async def notify(
        self, message: str, level: str = "info", principal: str = _SERVICE
    ) -> tuple[str, int, int]:
        """Tell every user: a `system_notification`. Raises as `publish`."""
        return await self.publish(
            SYSTEM_STREAM, NOTIFICATION, {"message": message, "level": level}, principal
        )

    async def revoke(
        self, *, user_id: UserId | None = None, jti: str | None = None, principal: str = _SERVICE
    ) -> tuple[str, int, int]:
        """End one user's tokens up to now, or one token. Raises as `publish`."""
        now_ms = self._latest_ms(self._ambient.now_ms())
        given = {"user_id": user_id, "jti": jti}
        fields = {name: value for name, value in given.items() if value is not None}
        append = Append(ts_ms=now_ms, events=(self._revocation(fields, now_ms),), principal=principal)
        return place_of_last(await self._log.append(append))

    async def recent(self, stream: str) -> tuple[int, bytes]:
        """The snapshot (seq, `{"recent":[…]}`) of a stream whose state is its newest events."""
        head = self._log.head(stream)
        seq = max(head.seq - RECENT_EVENTS, head.first - 1, 0)
        parts: list[bytes] = []
        while seq < head.seq:
            page = await self._log.read(stream, seq, events_max=head.seq - seq)
            page = [event for event in page if event.seq <= head.seq]
            if not page:  # the other events were compacted away meanwhile
                break
            place = b'{"stream":' + msgspec.json.encode(stream) + b',"seq":%d,'
            parts.extend(place % event.seq + event.body[1:] for event in page)
            seq = page[-1].seq
        while sum(map(len, parts)) > _SNAPSHOT_BYTES_MAX:
            del parts[0]
        return head.seq, b'{"recent":[' + b",".join(parts) + b"]}"

    async def _whole_log(self, _stream: str) -> tuple[int, bytes]:
        return self._log.position, b"{}"

    def _publish_command(self, call: Call[dict[str, Any]]) -> OneAppend | Reply | Coroutine[Any, Any, Reply]:
        fields, now_ms = {**call.params}, self._ambient.now_ms()
        try:
            if "events" in fields and "type" not in fields:
                events, size = self._listed(fields, now_ms)
            else:
                stream, type_ = fields.pop("stream", None), fields.pop("type", None)
                events, size = self._maker.make(((stream, type_, fields),), now_ms)
            found = OneAppend(now_ms, events, _PUBLISHED, events_bytes=size)
        except PublishRefused as refused:
            return error_reply(refused.refusal)
        if self._may_publish is None or call.principal.is_admin:
            return found
        return self._publish_as_user(call, found, self._may_publish)

    async def _publish_as_user(self, call: Call[Any], asked: OneAppend, may: MayPublish) -> Reply:
        """Publish if the application says that this user may write every stream that is named."""
        for stream in dict.fromkeys(event.stream for event in asked.events):
            if not await may(call.principal, stream):
                return error_reply(Refusal(ErrorCode.FORBIDDEN, zh.NOT_YOURS_TO_WRITE))
        brought = self._types.new_of(event.type for event in asked.events)
        if not self._types.admit(call.principal.name, brought):
            return error_reply(Refusal(ErrorCode.QUOTA_EXCEEDED, zh.TOO_MANY_TYPES))
        stream, record = asked.events[-1].stream, None
        if call.key is not None:
            record = CommandRecord(call.key, call.fingerprint, asked.body, stream)
        try:
            written = await self._log.append(
                Append(
                    ts_ms=asked.ts_ms,
                    events=asked.events,
                    command=record,
                    principal=call.principal.name,
                    command_id=call.command_id,
                )
            )
        except EventStoreError:  # not when it is cancelled: what is under way may commit
            self._types.give_back(call.principal.name, brought)
            raise
        if isinstance(written, Duplicate):
            self._types.give_back(call.principal.name, brought)
            return from_record(written.command)
        at = stream, written.events[-1].seq
        return Reply(asked.body, at, recorded=record is not None, position=written.position)

    def _listed(self, fields: Mapping[str, Any], now_ms: int) -> tuple[tuple[NewEvent, ...], int]:
        """The events of a `publish` with a list, and the bytes of their bodies."""
        events = fields["events"]
        if len(fields) == 1 and type(events) is list and events and type(events[0]) is ListedEvent:
            listed = events  # they were looked at where they were read
        else:
            try:
                listed = msgspec.convert(fields, _Listed).events
            except msgspec.ValidationError as error:
                why = f"events: {error}"
                raise PublishRefused(Refusal(ErrorCode.INVALID_FIELD, zh.INVALID_FIELD, why)) from None
        return self._maker.make([(one.stream, one.type, one.fields) for one in listed], now_ms)

    def _revoke_command(self, call: Call[dict[str, Any]]) -> OneAppend | Reply:
        now_ms = self._latest_ms(self._ambient.now_ms())
        try:
            return OneAppend(now_ms, (self._revocation(call.params, now_ms),), _REVOKED)
        except PublishRefused as refused:
            return error_reply(refused.refusal)

    def _revocation(self, fields: Mapping[str, Any], now_ms: int) -> NewEvent:
        refusal = refuse_revocation(fields)
        if refusal is not None:
            raise PublishRefused(refusal)
        return self._maker.unchecked(AUTH_STREAM, REVOKED, fields, now_ms)

    def _need_room(self, principal: str) -> None:
        refusal = None if self.refuse_growth is None else self.refuse_growth(principal, True)
        if refusal is not None:
            raise PublishRefused(refusal)


def place_of_last(written: Appended | Duplicate) -> tuple[str, int, int]:
    """Where a publication's last event is: (stream, seq, position)."""
    assert isinstance(written, Appended), "only a command id makes a duplicate"
    last = written.events[-1]
    return last.stream, last.seq, written.position
