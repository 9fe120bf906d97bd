"""An ordered log in NATS JetStream: one stream, one message for each proposal; its sequence is the offset.

JetStream gives sequences without gaps, and deletes none but from the front (`deny_delete`, no age, no
limit that discards old messages). Its own removal of duplicates is not used: it forgets ids after two
minutes, and nodes recognise a repeated proposal by its content.

This node reads by one ordered consumer (`huahuo.eventstore.sequencer.nats_stream`). It is made anew, from
the next sequence, whenever it was silent, skipped a sequence, or its connection ended. Proposals that are
too large for one message lie in the log's object store, by their digest.
"""

import asyncio
import contextlib
import datetime as dt
import hashlib
from collections import deque
from collections.abc import AsyncGenerator

import msgspec
import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.js.api import ObjectStoreConfig, StorageType
from nats.js.object_store import ObjectStore

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.sequencer.address import LogAddress
from huahuo.eventstore.sequencer.nats_link import ERRORS, ApiError, Link, open_link
from huahuo.eventstore.sequencer.nats_stream import (
    FULL_LINE,
    NoJetStream,
    Stream,
    check_monitors,
    consume,
    look,
    refused_line,
    subject_of,
)
from huahuo.eventstore.sequencer.port import (
    InDoubt,
    Misconfigured,
    Ordered,
    ProposalTooLarge,
    SequencerError,
    Trimmed,
    Unreachable,
    another_now,
)

STORE_S = 60.0
ORPHAN_S = 86_400.0
"""An object that is older than the log's first proposal by this is referred to by none that is kept."""


def object_digest(proposal: bytes) -> str:
    """The name of its object."""
    return hashlib.sha256(proposal).hexdigest()


async def _object_store(link: Link, name: str, replicas: int) -> ObjectStore:
    js = link.client.jetstream(timeout=5)
    try:
        return await js.object_store(f"{name}_large")
    except nats.js.errors.NotFoundError:
        config = ObjectStoreConfig(storage=StorageType.FILE, replicas=replicas)
        return await js.create_object_store(f"{name}_large", config)


async def put_object(link: Link, name: str, replicas: int, proposal: bytes) -> str:
    """Keep `proposal`, unless it is there; its digest.

    Raises:
        nats.errors.Error, TimeoutError, OSError: it may not be kept.
    """
    digest = object_digest(proposal)
    async with asyncio.timeout(STORE_S):
        store = await _object_store(link, name, replicas)
        with contextlib.suppress(nats.js.errors.NotFoundError):
            if not (await store.get_info(digest)).deleted:
                return digest
        await store.put(digest, proposal)
    return digest


async def get_object(link: Link, name: str, digest: str) -> bytes | None:
    """The proposal with this digest; None if it is not there, or not whole, yet."""
    with contextlib.suppress(nats.js.errors.Error, *ERRORS):
        async with asyncio.timeout(STORE_S):
            store = await _object_store(link, name, 1)
            found = (await store.get(digest)).data or b""
            if object_digest(found) == digest:
                return found
    return None


async def sweep_objects(link: Link, name: str, first_at: dt.datetime) -> None:
    """Delete objects that no proposal refers to; the log's first one was put in order at `first_at`."""
    before = first_at - dt.timedelta(seconds=ORPHAN_S)
    js = link.client.jetstream(timeout=5)
    try:
        store = await js.object_store(f"{name}_large")
        for found in await store.list():
            if found.mtime and dt.datetime.fromisoformat(found.mtime) < before:
                await store.delete(found.name)
    except nats.js.errors.NotFoundError:
        return  # no store, or nothing in it


PROPOSAL_BYTES_MAX = 64 << 20
MESSAGE_BYTES, HEADERS_BYTES = 1 << 20, 1024
"""The server's `max_payload` unless it says another, and what the headers take of it at most."""
ANSWER_S = 2.0
"""How long `propose` waits. A message on its way to a leader that dies gets no answer, so this is short: the
next attempt finds the new leader, 4 to 9 s after the death."""
UNDER_WAY_MAX = 64
"""How many messages wait for their answer; further ones wait here, in order, and their time begins later."""
RETRY_S = 0.2
TAKES_NOTHING = (
    "it takes no proposal, though the connection lives: too few NATS servers live, or the disk of one is full"
    " (its log says so; give it room and restart it)"
)
OBJECT = "Huahuo-Object"


class NatsSequencer:
    """`Sequencer` on JetStream. `trouble` says why the log can't be reached, and is empty when it can."""

    def __init__(self, address: LogAddress, ambient: Ambient) -> None:
        self.address = address
        self.trouble = ""
        self._ambient = ambient
        self._hosts = deque(address.hosts)
        self._link: Link | None = None
        self._stream: Stream | None = None
        self._connecting = asyncio.Lock()
        self._under_way = asyncio.Semaphore(UNDER_WAY_MAX)
        self._tried_s = -RETRY_S
        self._closed = False

    @property
    def proposal_bytes_max(self) -> int:
        """See `Sequencer`. A larger proposal goes to the object store, which is slower."""
        link = self._link
        return (link.client.max_payload if link is not None else MESSAGE_BYTES) - HEADERS_BYTES

    async def check(self) -> list[str]:
        """Ask the log once whether it is there and keeps what it acknowledges. Returns warnings.

        Raises:
            Unreachable: it does not answer.
            Misconfigured: it may lose proposals.
        """
        stream = await self._look(await self._connect())
        warnings = await check_monitors(self.address, stream.replicas)
        if stream.full_at:
            warnings.append(
                f"the stream {self.address.name} takes at most {stream.full_at}, and then all nodes wait:"
                f" {FULL_LINE.format(name=self.address.name)}"
            )
        if stream.clustered and stream.replicas == 1 and "replicas" not in self.address.options:
            warnings.append(f"three servers could keep it: nats stream edit {self.address.name} --replicas 3")
        return warnings

    async def propose(self, proposal: bytes) -> int:
        """See `Sequencer`."""
        if len(proposal) > PROPOSAL_BYTES_MAX:
            raise ProposalTooLarge(f"a proposal may have at most {PROPOSAL_BYTES_MAX} bytes")
        link = await self._connect()
        headers = {"Nats-Expected-Stream": self.address.name}
        if len(proposal) > self.proposal_bytes_max:
            try:
                replicas = self._stream.replicas if self._stream is not None else 1
                headers[OBJECT] = await put_object(link, self.address.name, replicas, proposal)
            except ERRORS as error:
                raise Unreachable(f"the log's object store refused: {type(error).__name__}") from None
            proposal = b""
        async with self._under_way:
            try:
                answer = await link.request(subject_of(self.address), proposal, ANSWER_S, headers)
            except InDoubt as error:
                raise InDoubt(str(error), "" if link.ended.is_set() else TAKES_NOTHING) from None
        found = msgspec.json.decode(answer.data)
        if refused := found.get("error"):
            code, why = int(refused.get("err_code", 0)), str(refused.get("description", ""))
            said = f"JetStream refused: {why} ({code})"
            raise InDoubt(said, said + refused_line(self.address.name, code, why))
        return int(found["seq"])

    async def last(self) -> int:
        """See `Sequencer`. Asked of a leader that a majority has just answered."""
        stream = await self._look(await self._connect())
        if stream.doubt:
            raise Unreachable(stream.doubt)
        return stream.last

    async def trim(self, before: int) -> None:
        """See `Sequencer`."""
        link = await self._connect()
        try:
            stream = await self._look(link)
            if before <= stream.first:
                return
            await link.ask(f"STREAM.PURGE.{self.address.name}", {"seq": min(before, stream.last + 1)})
            await sweep_objects(link, self.address.name, await self._first_at(link))
        except ApiError as error:
            raise Unreachable(f"the log was not trimmed: {error}") from None
        except ERRORS as error:
            raise Unreachable(f"the log went away: {type(error).__name__}") from None

    async def follow(self, after: int) -> AsyncGenerator[Ordered]:
        """See `Sequencer`."""
        last, digest = after, b""
        while not self._closed:
            link = None
            try:
                link = await self._connect()
                stream = await self._look(link)
                if not await self._goes_on(link, stream, last, digest):
                    await asyncio.sleep(RETRY_S)
                    continue
                async with contextlib.aclosing(
                    consume(link, self.address, self._ambient.token(), last + 1)
                ) as messages:
                    async for message in messages:
                        offset = message.metadata.sequence.stream
                        if offset != last + 1:
                            break  # a lost message, or a trimmed one: looked at anew
                        body = await self._body(link, message)
                        last, digest = offset, _digest(message)
                        yield Ordered(offset, body)
            except Unreachable as error:
                self.trouble = str(error)
                if link is not None:
                    await self._leave(link)
                await asyncio.sleep(0)
            except (ApiError, *ERRORS) as error:
                self.trouble = f"the log at {self.address} went away: {str(error) or type(error).__name__}"
                await asyncio.sleep(RETRY_S)

    async def close(self) -> None:
        """See `Sequencer`."""
        self._closed = True
        if self._link is not None:
            await self._link.close()

    def _is_closed(self) -> bool:
        """Asked again after an await: it may have been closed meanwhile."""
        return self._closed

    async def _connect(self) -> Link:
        """The connection, made anew if it has ended. After a failed attempt the next one waits."""
        if (link := self._link) is not None and not link.ended.is_set():
            return link
        async with self._connecting:
            if self._closed:
                raise Unreachable("the log is closed")
            if (link := self._link) is not None and not link.ended.is_set():
                return link
            pause_s = self._tried_s + RETRY_S - self._ambient.monotonic_s()
            if pause_s > 0:
                await asyncio.sleep(pause_s)
            self._tried_s = self._ambient.monotonic_s()
            try:
                link = await open_link(self.address, tuple(self._hosts))
                try:
                    await self._look(link)
                except BaseException:
                    await link.close()
                    self._hosts.rotate(-1)  # this server may have no way to the leader
                    raise
            except SequencerError as error:
                self.trouble = str(error)
                raise
            if self._is_closed():
                await link.close()
                raise Unreachable("the log is closed")
            self._link, self.trouble, self._tried_s = link, "", -RETRY_S
            return link

    async def _leave(self, link: Link) -> None:
        """This server is silent, maybe frozen: begin with another one, and do not wait until pings fail."""
        if link.host in self._hosts:
            self._hosts.remove(link.host)
            self._hosts.append(link.host)
        await link.close()

    async def _look(self, link: Link) -> Stream:
        try:
            stream = await look(link, self.address)
        except NoJetStream as error:
            if self._stream is None:
                raise
            raise Unreachable(str(error)) from None  # it had it: its disk is full, or it is being set up anew
        if self._stream is not None and stream.created != self._stream.created:
            raise Misconfigured(another_now(self.address))
        self._stream = stream
        return stream

    async def _goes_on(self, link: Link, stream: Stream, last: int, digest: bytes) -> bool:
        """Whether the log has what was read here, at its place; False where its leader is not sure."""
        if stream.first > last + 1:
            raise Trimmed(f"the log begins at offset {stream.first}, and {last + 1} is needed", stream.first)
        if stream.last < last:
            if stream.doubt:
                self.trouble = stream.doubt
                return False
            raise Misconfigured(
                f"the log went back: it ends at offset {stream.last}, and {last} was applied here."
                " It was restored from an older copy, or lost messages; docs/scaling.md says what to do"
            )
        if digest and last >= stream.first:
            found = await link.ask(f"STREAM.MSG.GET.{self.address.name}", {"seq": last})
            message = found["message"]
            stored = msgspec.convert(message.get("data", ""), bytes, strict=False)
            headers = msgspec.convert(message.get("hdrs", ""), bytes, strict=False)
            if hashlib.sha256(_object_in(headers) + stored).digest() != digest:
                raise Misconfigured(
                    f"the log has another proposal at offset {last} than the one that was read here:"
                    " it lost messages; docs/scaling.md says what to do"
                )
        self.trouble = ""
        return True

    async def _body(self, link: Link, message: Msg) -> bytes:
        """The proposal of a message: in it, or in the object store, which is waited for."""
        if not message.headers or not (digest := message.headers.get(OBJECT)):
            return message.data
        while (body := await get_object(link, self.address.name, digest)) is None:
            self.trouble = (
                f"the log's object store lacks a proposal at offset {message.metadata.sequence.stream}"
            )
            if link.ended.is_set():
                raise Unreachable(f"{link.host} has gone")
            await asyncio.sleep(RETRY_S)
        self.trouble = ""
        return body

    async def _first_at(self, link: Link) -> dt.datetime:
        """When the first proposal that is kept was put in order; now, if none is kept."""
        stream = await self._look(link)
        if stream.last < stream.first:
            return dt.datetime.fromtimestamp(self._ambient.now_ms() / 1000, dt.UTC)
        found = await link.ask(f"STREAM.MSG.GET.{self.address.name}", {"seq": stream.first})
        return dt.datetime.fromisoformat(found["message"]["time"])


def _digest(message: Msg) -> bytes:
    stored = (message.headers or {}).get(OBJECT, "").encode()
    return hashlib.sha256(stored + message.data).digest()


def _object_in(headers: bytes) -> bytes:
    """The digest of an object in the headers of a stored message."""
    for line in headers.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip() == OBJECT.encode():
            return value.strip()
    return b""
