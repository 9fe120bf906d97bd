"""Deliveries as durable effects: an event that matches is queued in the log, sent until it is accepted.

Attempts go on with back-off for about a day, also over restarts. Then the delivery is a dead letter,
which its user can have tried again. Receivers get some events more than once, and not always in order.

Each attempt is one POST to an address that a user named: resolved once, each address checked, no redirect
followed (it could lead anywhere). The connection goes to a checked address, so a DNS server that changes
its answer cannot swap it afterwards (DNS rebinding).
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol
from urllib.parse import SplitResult, urlsplit

import h11
import msgspec

from huahuo.actors.effects.facts import Start
from huahuo.actors.effects.queue import Bounds, Spec
from huahuo.actors.effects.run import EffectRun
from huahuo.actors.effects.runner import Effects
from huahuo.actors.followers.spec import Followed
from huahuo.actors.plugins.addresses import AddressRefused, host_name, refusal
from huahuo.actors.plugins.calls import UserId
from huahuo.actors.plugins.resolver import Names, Resolver
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.deadline import Deadline
from huahuo.eventstore.model import LOG_STREAM, Append, RowPut, StoredEvent
from huahuo.eventstore.port import Log
from huahuo.replay.feed import Feed
from huahuo.webhooks import delivery_books
from huahuo.webhooks.delivery_books import DELIVERY, KIND, DeadLetter, Delivery, HookBooks
from huahuo.webhooks.hooks import SECRET, SECRET_BEFORE, Hook, Hooks, owner_of, signed_headers

TIMEOUT_S: Final = 15.0
_ADDRESSES_MAX: Final = 4
_READ_BYTES: Final = 16 << 10
_ANSWER_BYTES_MAX: Final = 64 << 10
"""Of an answer, of which only the status counts. Behind it, the connection is cut."""
_PORTS: Final = {"https": 443, "http": 80}


class PostFailed(Exception):  # noqa: N818  a fact, not a fault
    """There was no answer. The text says why, without the URL."""


class Posting:
    """One POST to an address that a user named: resolved once, each address checked, no redirect followed.

    `tls` verifies certificates and names.
    """

    def __init__(
        self,
        ambient: Ambient,
        *,
        allow_private: bool,
        resolver: Resolver | None = None,
        tls: ssl.SSLContext | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._ambient = ambient
        self._allow_private = allow_private
        self._resolver = resolver or Names()
        self._tls = tls
        self._timeout_s = timeout_s

    async def post(self, url: str, headers: Sequence[tuple[str, str]], body: bytes) -> int:
        """The status of the answer. Raises PostFailed."""
        parts = urlsplit(url)
        port = parts.port or _PORTS[parts.scheme]
        try:
            async with Deadline(self._ambient, self._timeout_s):
                reader, writer = await self._connected(parts.scheme, parts.hostname or "", port)
                try:
                    return await _exchanged(reader, writer, _request(parts, headers, body), body)
                finally:
                    writer.transport.abort()
        except TimeoutError:
            raise PostFailed(f"no answer within {self._timeout_s:g} s") from None
        except ssl.SSLCertVerificationError as error:
            raise PostFailed(f"its certificate is not good: {error.verify_message}") from None
        except ssl.SSLError:
            raise PostFailed("no secure connection") from None
        except OSError as error:
            raise PostFailed(error.strerror or "the connection failed") from None
        except h11.RemoteProtocolError:
            raise PostFailed("the answer is no HTTP") from None

    async def _connected(
        self, scheme: str, host: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the first allowed address that accepts it."""
        name, addresses = await self._addresses(host, port)
        failed: OSError = ConnectionError("no address of the host can be tried")
        for address in addresses:
            try:
                if scheme == "http":
                    return await asyncio.open_connection(address, port)
                if self._tls is None:  # loading the authorities is slow, and most services have no webhooks
                    self._tls = ssl.create_default_context()
                return await asyncio.open_connection(address, port, ssl=self._tls, server_hostname=name)
            except ssl.SSLError:
                raise
            except OSError as error:
                failed = error
        raise failed

    async def _addresses(self, host: str, port: int) -> tuple[str, list[str]]:
        try:
            name = host_name(host)
            found = await self._resolver(name, port)
        except AddressRefused as error:
            raise PostFailed(str(error)) from None
        except (OSError, UnicodeError):
            raise PostFailed("the host's name has no address") from None
        why, allowed = "the host's name has no address", []
        for address in found:
            reason = refusal(address, allow_private=self._allow_private)
            if reason is None:
                allowed.append(address)
            else:
                why = f"its address is refused: {reason}"
        if not allowed:
            raise PostFailed(why)
        return name, allowed[:_ADDRESSES_MAX]


def _request(parts: SplitResult, headers: Sequence[tuple[str, str]], body: bytes) -> h11.Request:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    given = [
        ("host", parts.netloc),
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        ("user-agent", "huahuo-webhooks"),
        ("connection", "close"),
        *headers,
    ]
    return h11.Request(method="POST", target=target, headers=given)


async def _exchanged(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: h11.Request, body: bytes
) -> int:
    wire = h11.Connection(h11.CLIENT)
    writer.write(wire.send(request) + wire.send(h11.Data(data=body)) + wire.send(h11.EndOfMessage()))
    await writer.drain()
    status, size = 0, 0
    while True:
        event = wire.next_event()
        if event is h11.NEED_DATA:
            data = await reader.read(_READ_BYTES)
            size += len(data)
            wire.receive_data(data)
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed) or event is h11.PAUSED:
            return status
        if size > _ANSWER_BYTES_MAX:  # without a status: "100 Continue" again and again
            return status


RETRIES: Final = 33
BACKOFF_S: Final = 5.0
"""5, 10, 20, … s, from the tenth on an hour each: together about a day."""
AT_ONCE: Final = 64
PER_USER: Final = 8
PER_HOOK: Final = 4
WAITING_MAX: Final = 10_000
"""Deliveries of one hook that wait. An event beyond it is a dead letter at once."""
_EVENT_BYTES: Final = 1 << 20
_PAGE_ROWS: Final = 500

type MayRead = Callable[[Hook, str], Awaitable[bool]]
"""Whether the user of a hook may read a stream now. Raises as `Directory.ask`."""


class Receives(Protocol):
    """Sends requests (`Posting`)."""

    async def post(self, url: str, headers: Sequence[tuple[str, str]], body: bytes) -> int:
        """The status of the answer. Raises PostFailed."""
        ...


class DeliveryFailed(Exception):  # noqa: N818  a fact, not a fault
    """The receiver did not accept it."""


class Deliveries:
    """See the module. All methods belong to the loop's thread."""

    def __init__(
        self,
        *,
        log: Log,
        feed: Feed,
        ambient: Ambient,
        hooks: Hooks,
        posting: Receives,
        may_read: MayRead,
        wait_s: Callable[[UserId], float] = lambda _user: 0.0,
        shared: bool = False,
    ) -> None:
        self.books = HookBooks(log, ambient, self._is_paused, shared=shared)
        self.delivered = 0
        self.failed = 0
        self.last: dict[int, tuple[int, str]] = {}
        """Of each hook since the start: when something was sent last, and what came of it."""
        self._log = log
        self._feed = feed
        self._ambient = ambient
        self._hooks = hooks
        self._posting = posting
        self._may_read = may_read
        spec = Spec(
            kind=KIND,
            name=DELIVERY,
            handler=self._deliver,
            read=msgspec.json.Decoder(Delivery).decode,
            key=int,
            retries=RETRIES,
            backoff_s=BACKOFF_S,
            at_once=PER_HOOK,
            per=lambda delivery: delivery.webhook_id,
        )
        self.effects = Effects(
            log=log,
            ambient=ambient,
            books=self.books,
            specs={(KIND, DELIVERY): spec},
            wait_s=wait_s,
            bounds=Bounds(at_once=AT_ONCE, at_once_per_user=PER_USER),
            shared=shared,
            claims=False,
        )

    async def start(self) -> None:
        """Go on with what an earlier process left. If shared, again after `effects.rest`."""
        await self.books.count_all(hook.webhook_id for hook in self._hooks.all())
        await self.effects.start()

    def read_event(self, event: StoredEvent) -> Followed:
        """An event as `queue` gets it. Bodies that no hook is for are not decoded."""
        wanted = self._hooks.candidates(event.stream, event.type)
        data: dict[str, Any] = msgspec.json.decode(event.body) if wanted else {}
        return Followed(event.position, event.stream, event.seq, event.type, data)

    async def queue(self, events: Sequence[Followed]) -> None:
        """Queue the deliveries of these events, in one commit. To do it twice does no harm."""
        rows: dict[int, tuple[RowPut, Start, str]] = {}
        counts: dict[int, int] = {}
        for event in events:
            for hook in self._hooks.matching(event.stream, event.type, event.position, event.data):
                delivery = Delivery(hook.webhook_id, event.position)
                counts[hook.webhook_id] = waiting = counts.get(hook.webhook_id, 0) + 1
                if not await self._has_room(hook.webhook_id, waiting):
                    await self._too_many(delivery, event)
                    continue
                row = delivery_books.opened(delivery, hook.user_id, self._ambient.now_ms())
                rows[delivery.number] = (
                    delivery_books.put_delivery(delivery.number, row),
                    Start(delivery.number, row),
                    owner_of(hook.webhook_id),
                )
        if rows:
            await self._open(rows)

    async def retry(self, hook: Hook, told: Append) -> int:
        """Queue all dead letters of a hook again, in one commit with `told`; how many there were."""
        positions = list(await self.letters(hook.webhook_id))
        rows: dict[int, tuple[RowPut, Start, str]] = {}
        for position in positions:
            delivery = Delivery(hook.webhook_id, position)
            row = delivery_books.opened(delivery, hook.user_id, self._ambient.now_ms())
            start = Start(delivery.number, row)
            rows[delivery.number] = (
                delivery_books.put_delivery(delivery.number, row),
                start,
                owner_of(hook.webhook_id),
            )
        gone = delivery_books.drop_dead(hook.webhook_id, positions)
        await self._open(rows, msgspec.structs.replace(told, rows=gone))
        self.books.count(self.books.dead, hook.webhook_id, -len(positions))
        return len(positions)

    def resume(self) -> None:
        """A hook is not paused any more: send what waited."""
        self.effects.look_again()

    async def letters(self, webhook_id: int) -> dict[int, DeadLetter]:
        """The dead letters of a hook by position, the oldest first."""
        found: dict[int, DeadLetter] = {}
        after = b""
        while rows := await self._log.rows(
            delivery_books.DEAD_TABLE, str(webhook_id), after=after, limit=_PAGE_ROWS
        ):
            found.update(delivery_books.read_dead(key, value) for key, value in rows)
            after = rows[-1][0]
        return found

    async def _open(
        self, rows: Mapping[int, tuple[RowPut, Start, str]], append: Append | None = None
    ) -> None:
        base = append or Append(ts_ms=self._ambient.now_ms())
        puts = tuple(put for put, _, _ in rows.values())
        await self._log.append(msgspec.structs.replace(base, rows=(*base.rows, *puts)))
        for _, start, owner in rows.values():
            self.books.count(self.books.waiting, int(start.row.key), 1)
            self.effects.committed(start, owner)

    async def _has_room(self, webhook_id: int, more: int) -> bool:
        """Whether this many more may wait for a hook."""
        while self.books.waiting.get(webhook_id, 0) + more > WAITING_MAX:
            if not await self.books.count_again():
                return False
        return True

    async def _too_many(self, delivery: Delivery, event: Followed) -> None:
        why = f"{WAITING_MAX} deliveries waited"
        letter = DeadLetter(event.stream, event.seq, event.type, 0, why, self._ambient.now_ms())
        await self.books.bury(delivery, letter)

    async def _deliver(self, delivery: Delivery, run: EffectRun) -> None:
        """One attempt. Raises DeliveryFailed; what the log raises says nothing about the delivery."""
        del run
        hook = self._hooks.of(delivery.webhook_id)
        event = None if hook is None else await self._event(delivery.position)
        if hook is None or event is None or not await self._may_read(hook, event.stream):
            return  # removed, compacted away, or not the user's to read any more
        body, now_ms = body_of(event), self._ambient.now_ms()
        secrets = await self._secrets(hook, now_ms)
        if not secrets:
            return
        why = ""
        try:
            headers = signed_headers(secrets, delivery.name, now_ms, body)
            status = await self._posting.post(hook.url, headers, body)
        except PostFailed as failed:
            why = str(failed)
        except asyncio.CancelledError:
            raise
        else:
            why = _refusal(status)
        self.last[hook.webhook_id] = now_ms, why
        if why:
            self.failed += 1
            letter = DeadLetter(event.stream, event.seq, event.type, 0, why, self._ambient.now_ms())
            self.books.words.say(delivery, letter)
            raise DeliveryFailed(why)
        self.delivered += 1

    def _is_paused(self, webhook_id: int) -> bool:
        hook = self._hooks.of(webhook_id)
        return hook is not None and hook.paused

    async def _secrets(self, hook: Hook, now_ms: int) -> list[str]:
        """What signs: the secret, and for a while after a change also the one before."""
        names = (SECRET, SECRET_BEFORE) if now_ms < hook.old_until_ms else (SECRET,)
        found = await self._log.secrets(owner_of(hook.webhook_id), names)
        return [secret.reveal() for secret in found if secret is not None]

    async def _event(self, position: int) -> StoredEvent | None:
        run = await self._feed.fetch(LOG_STREAM, position - 1, events_max=1, bytes_max=_EVENT_BYTES)
        event = run.events[0] if run.events else None
        return event if event is not None and event.position == position else None


def body_of(event: StoredEvent) -> bytes:
    """What is sent: type, time and the event as clients get it, with `stream` and `seq`."""
    place = b'{"stream":%b,"seq":%d,' % (msgspec.json.encode(event.stream), event.seq)
    head = msgspec.json.encode({"type": event.type, "timestamp": _timestamp(event)})
    return head[:-1] + b',"data":' + place + event.body[1:] + b"}"


class _Timed(msgspec.Struct):
    timestamp: str = ""


def _timestamp(event: StoredEvent) -> str:
    return msgspec.json.decode(event.body, type=_Timed).timestamp


def _refusal(status: int) -> str:
    """Why this status is no success, "" if it is."""
    if 200 <= status < 300:  # noqa: PLR2004  RFC 9110
        return ""
    if 300 <= status < 400:  # noqa: PLR2004
        return f"HTTP {status}: redirects are not followed, so give the last address"
    return f"HTTP {status}" if status else "no answer"
