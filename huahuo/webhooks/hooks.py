"""The webhooks of a service: folded from the stream `webhooks`, matched with events, changed, signed.

The fold and the match are pure; `HookBook` is a thin shell. A hook's secret is in no event: it is sealed
under the owner `webhook/<id>`, and destroyed with its key. Deliveries are signed as Standard Webhooks has
it: HMAC-SHA256 over id, time and body.
"""

import asyncio
import base64
import hashlib
import hmac
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from huahuo.actors.plugins.addresses import AddressRefused, host_name
from huahuo.actors.plugins.calls import Principal, UserId
from huahuo.eventstore.ambient import Ambient, json_bytes, rfc3339
from huahuo.eventstore.model import (
    Append,
    CommandRecord,
    Duplicate,
    NewEvent,
    RowDrop,
    Secret,
    SecretPut,
    StoredEvent,
)
from huahuo.eventstore.port import Log
from huahuo.refusals import ChangeRefused
from huahuo.replay.ledger import Ledger
from huahuo.users.belongings import Belonging, Belongings
from huahuo.webhooks import delivery_books

WEBHOOKS: Final = "webhooks"
ADDED, REMOVED, RETRIED = "webhook_added", "webhook_removed", "webhook_retried"
PAUSED, RESUMED, SECRET_CHANGED = "webhook_paused", "webhook_resumed", "webhook_secret_changed"
SECRET: Final = "secret"  # noqa: S105  a name
"""The name under which a hook's secret is sealed."""
SECRET_BEFORE: Final = "secret before"  # noqa: S105  a name
"""That of the one before it, which signs too for a while after a change."""
HOOKS_PER_USER_MAX: Final = 20
HOOKS_PER_DAY_MAX: Final = 100
"""That a user may make: numbers are finite, and none is used twice."""
URL_CHARS_MAX: Final = 2048
_HOOKS_MAX: Final = (1 << 23) - 1
_ANY: Final = "/*"
_DAY_MS: Final = 86_400_000

type _Text = Annotated[str, Meta(min_length=1, max_length=128)]
type Scalar = str | int | float | bool | None


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which events a hook is for: all that is said must be true.

    `types`: types of events. `streams`: names, or `<kind>/*` for all streams of a kind. `fields`: for a field
    of the event, the values that it may have. `has`: fields that the event must have.
    """

    types: Annotated[tuple[_Text, ...], Meta(min_length=1, max_length=32)]
    streams: Annotated[tuple[_Text, ...], Meta(max_length=100)] = ()
    fields: Annotated[
        dict[_Text, Annotated[tuple[Scalar, ...], Meta(max_length=1000)]], Meta(max_length=10)
    ] = {}
    has: Annotated[tuple[_Text, ...], Meta(max_length=10)] = ()

    def wants(self, data: Mapping[str, Any]) -> bool:
        """Whether the fields of an event fit. Its stream and type do."""
        if any(data.get(name) is None for name in self.has):
            return False
        return all(
            any(_same(data.get(name), one) for one in allowed) for name, allowed in self.fields.items()
        )


class Hook(Belonging, frozen=True, kw_only=True):
    """A webhook as it was made.

    `since`: it gets nothing up to this position of the log, and everything behind the event that made it.
    `account`: the user has a password here.
    """

    webhook_id: int
    account: bool = False
    url: str
    filter: Filter
    since: int = 0
    created_at_ms: int = 0
    paused: bool = False
    """Nothing is sent. What matches meanwhile waits."""
    changes: int = 0
    """How often the secret was changed."""
    old_until_ms: int = 0
    """Until then the secret before signs too."""


class _Told(msgspec.Struct):
    webhook_id: int
    old_until_ms: int = 0


class Hooks(Belongings[Hook]):
    """All webhooks, by id and by what they are for."""

    what = "webhook"

    def __init__(self) -> None:
        super().__init__()
        self.kinds: set[str] = set()
        """The kinds of streams that any hook is for. Always the same object."""
        self._by_place: dict[tuple[str, str], list[Hook]] = {}
        """By stream (or `<kind>/*`) and type."""
        self._day = 0
        self._made: Counter[UserId] = Counter()
        """How many each user made on the newest day (UTC) on which any was made."""

    def made_today(self, user_id: UserId, now_ms: int) -> int:
        """How many a user has made since midnight (UTC), removed ones too."""
        return self._made[user_id] if now_ms // _DAY_MS <= self._day else 0

    def candidates(self, stream: str, type_: str) -> list[Hook]:
        """The hooks that are for this type of events of this stream."""
        places = self._by_place
        whole = places.get((_kind(stream) + _ANY, type_), ())
        return [*places.get((stream, type_), ()), *whole]

    def matching(self, stream: str, type_: str, position: int, data: Mapping[str, Any]) -> Iterator[Hook]:
        """The hooks that an event is for, each once."""
        found = {hook.webhook_id: hook for hook in self.candidates(stream, type_)}
        return (hook for hook in found.values() if position > hook.since and hook.filter.wants(data))

    def apply(self, event: StoredEvent) -> None:
        """Fold in the next event of the stream."""
        if event.type == ADDED:
            hook = msgspec.json.decode(event.body, type=Hook)
            self._by_id[hook.webhook_id] = hook
            if (day := hook.created_at_ms // _DAY_MS) > self._day:
                self._day, self._made = day, Counter()
            self._made[hook.user_id] += 1
        elif event.type == REMOVED:
            self._by_id.pop(msgspec.json.decode(event.body, type=_Told).webhook_id, None)
        elif event.type in (PAUSED, RESUMED, SECRET_CHANGED):
            self._change(event.type, msgspec.json.decode(event.body, type=_Told))
        else:
            return
        self._index()

    def _change(self, type_: str, told: _Told) -> None:
        hook = self._by_id.get(told.webhook_id)
        if hook is None:
            return
        if type_ == SECRET_CHANGED:
            changed = replace(hook, changes=hook.changes + 1, old_until_ms=told.old_until_ms)
        else:
            changed = replace(hook, paused=type_ == PAUSED)
        self._by_id[hook.webhook_id] = changed

    def _index(self) -> None:
        self._by_place.clear()
        self.kinds.clear()
        for hook in self._by_id.values():
            for stream in hook.filter.streams:
                self.kinds.add(_kind(stream))
                for type_ in dict.fromkeys(hook.filter.types):
                    self._by_place.setdefault((stream, type_), []).append(hook)


def refuse_url(url: str, *, allow_private: bool) -> None:
    """Raise ChangeRefused if nothing may be sent there. The host's addresses are judged at each delivery."""
    try:
        parts = urlsplit(url)
        port, host = parts.port, host_name(parts.hostname or "")
    except (ValueError, AddressRefused):
        raise ChangeRefused("invalid_field", "url: it has no host that can be connected to") from None
    if len(url) > URL_CHARS_MAX or not url.isascii() or not url.isprintable() or " " in url:
        raise ChangeRefused("invalid_field", f"url: at most {URL_CHARS_MAX} ASCII characters without blanks")
    if parts.scheme != "https" and not (allow_private and parts.scheme == "http"):
        raise ChangeRefused("invalid_field", "url: https:// is needed")
    if parts.username is not None or parts.password is not None or parts.fragment or port == 0 or not host:
        raise ChangeRefused("invalid_field", "url: no user, password or fragment may be in it")


def is_whole_kind(stream: str) -> bool:
    """Whether it stands for all streams of a kind."""
    return stream.endswith(_ANY)


def kinds_of(streams: Iterable[str]) -> set[str]:
    """Their kinds."""
    return {_kind(stream) for stream in streams}


def owner_of(webhook_id: int) -> str:
    """The owner of a hook's sealed secret."""
    return f"webhook/{webhook_id}"


def hook_event(type_: str, now_ms: int, fields: Mapping[str, Any]) -> NewEvent:
    """One event of the stream."""
    body = {"type": type_, "timestamp": rfc3339(now_ms), **fields}
    return NewEvent(WEBHOOKS, type_, json_bytes(body), entity=owner_of(fields["webhook_id"]))


def _kind(stream: str) -> str:
    return stream.partition("/")[0]


def _same(value: object, allowed: object) -> bool:
    """Equal as JSON: `true` is not 1."""
    return isinstance(value, bool) == isinstance(allowed, bool) and value == allowed


SECRET_BYTES: Final = 32
_PREFIX: Final = "whsec_"


def secret_text(raw: bytes) -> str:
    """A secret as its user gets it, once."""
    return _PREFIX + base64.b64encode(raw).decode()


def signed_headers(
    secrets: Sequence[str], delivery_id: str, now_ms: int, body: bytes
) -> list[tuple[str, str]]:
    """The headers by which a receiver knows that the body is ours and not an old one sent again.

    Each of the secrets signs: a receiver takes the body if one of the signatures is by a secret that it has.
    """
    seconds = str(now_ms // 1000)
    signed = f"{delivery_id}.{seconds}.".encode() + body
    return [
        ("webhook-id", delivery_id),
        ("webhook-timestamp", seconds),
        ("webhook-signature", " ".join(_signature(secret, signed) for secret in secrets)),
    ]


def _signature(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


class HookBook(Ledger[Hooks]):
    """The webhooks in the log: made, removed, and read as the log grows. A thin shell."""

    def __init__(self, log: Log, ambient: Ambient) -> None:
        super().__init__(log, WEBHOOKS, Hooks())
        self._ambient = ambient
        self._adding = asyncio.Lock()

    async def add(
        self,
        owner: Principal,
        url: str,
        wanted: Filter,
        *,
        account: bool,
        record: CommandRecord | None = None,
    ) -> tuple[Hook, str] | Duplicate:
        """Make a hook whose fields were judged; its secret is told once. `record`: see `KeyBook.add`.

        Raises:
            ChangeRefused: the user has as many as one may have, or has made as many today as one may.
        """
        secret = secret_text(self._ambient.token_bytes(SECRET_BYTES))
        hook: Hook | None = None
        number = 0

        def change(state: Hooks) -> Append:
            nonlocal hook, number
            now_ms = self._ambient.now_ms()
            if len(state.all(owner.user_id)) >= HOOKS_PER_USER_MAX:
                why = f"a user may have {HOOKS_PER_USER_MAX} webhooks: remove one first"
                raise ChangeRefused("rate_limited", why)
            if state.made_today(owner.user_id, now_ms) >= HOOKS_PER_DAY_MAX:
                why = f"a user may make {HOOKS_PER_DAY_MAX} webhooks a day: change one, or try again tomorrow"
                raise ChangeRefused("rate_limited", why)
            number = number or self._log.take("webhook")
            if number > _HOOKS_MAX:
                raise ChangeRefused("rate_limited", "this log has had as many webhooks as it can number")
            hook = Hook(
                webhook_id=number,
                user_id=owner.user_id,
                username=owner.username,
                is_admin=owner.is_admin,
                groups=owner.groups,
                account=account,
                url=url,
                filter=wanted,
                since=self._log.position,
                created_at_ms=now_ms,
            )
            return Append(
                ts_ms=now_ms,
                events=(hook_event(ADDED, now_ms, msgspec.to_builtins(hook)),),
                principal=owner.name,
                secrets=(SecretPut(owner_of(number), SECRET, Secret(secret)),),
                command=record,
            )

        async with self._adding:  # else those at the same time would each take a number, and fail
            written = await self.change(change)
        if isinstance(written, Duplicate):
            return written
        assert hook is not None, "it was appended"
        return hook, secret

    async def change_secret(
        self, webhook_id: int, *, by: str, only: UserId | None, overlap_s: float, record: CommandRecord | None
    ) -> tuple[Hook, str] | Duplicate:
        """Give a hook another secret, told once. The one before signs too for `overlap_s`.

        Raises ChangeRefused: there is no such hook (of the user `only`), or it was changed at the same time.
        """
        before = self.state.known(webhook_id, only)
        owner = owner_of(webhook_id)
        old = await self._log.secret(owner, SECRET)
        secret = secret_text(self._ambient.token_bytes(SECRET_BYTES))

        def change(state: Hooks) -> Append:
            hook = state.known(webhook_id, only)
            if hook.changes != before.changes:
                raise ChangeRefused("conflict", "the secret was changed at the same time")
            kept = () if old is None or overlap_s <= 0 else (SecretPut(owner, SECRET_BEFORE, old),)
            until_ms = self._ambient.now_ms() + round(overlap_s * 1000) if kept else 0
            return replace(
                self._told(SECRET_CHANGED, hook, by, old_until_ms=until_ms),
                secrets=(SecretPut(owner, SECRET, Secret(secret)), *kept),
                drop_secrets=() if kept else ((owner, SECRET_BEFORE),),
                command=record,
            )

        written = await self.change(change)
        if isinstance(written, Duplicate):
            return written
        return self.state.known(webhook_id, only), secret

    async def pause(self, webhook_id: int, *, by: str, only: UserId | None, paused: bool) -> None:
        """Pause a hook or let it go on; nothing changes if it is so already. Raises as `remove`."""
        if self.state.known(webhook_id, only).paused == paused:
            return

        await self.change(
            lambda state: self._told(PAUSED if paused else RESUMED, state.known(webhook_id, only), by)
        )

    async def remove(self, webhook_id: int, *, by: str, only: UserId | None = None) -> None:
        """Remove a hook with its secret and dead letters; what waits for it is not sent any more.

        Raises ChangeRefused: there is no such hook (of the user `only`).
        """
        await self.change(
            lambda state: replace(
                self._told(REMOVED, state.known(webhook_id, only), by),
                rows=(RowDrop(delivery_books.DEAD_TABLE, str(webhook_id)),),
                shred=(owner_of(webhook_id),),
            )
        )

    def _told(self, type_: str, hook: Hook, by: str, **more: Any) -> Append:
        """What happened to a hook. `more`: fields of the event."""
        now_ms = self._ambient.now_ms()
        fields = {"webhook_id": hook.webhook_id, "user_id": hook.user_id, **more}
        event = hook_event(type_, now_ms, fields)
        return Append(ts_ms=now_ms, events=(event,), principal=by)
