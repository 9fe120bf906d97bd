"""The log over any engine: the port's methods, with the writer for what changes and jobs for reads."""

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from eventstore.ambient import Ambient
from eventstore.blobs import blob_id as name_of
from eventstore.blobs import pack, unpack
from eventstore.chain import GENESIS, check
from eventstore.errors import Closed, Damaged, EventStoreError
from eventstore.executor import Executor
from eventstore.group import check_text
from eventstore.limits import check_names, check_number, weigh
from eventstore.model import (
    LOG_STREAM,
    Ack,
    Append,
    Appended,
    CommandKey,
    CommandRecord,
    Duplicate,
    Head,
    Keyframe,
    Secret,
    StoredEvent,
)
from eventstore.port import Listener
from eventstore.seal import Vault
from eventstore.store import Loaded, PutAck, PutKeyframe, Reads, Store, Touch
from eventstore.writer import Writer

STATE_BYTES_MAX = 256 << 20
PROBE_EVERY_S = 1.0
PROBE_TIMEOUT_S = 5.0
_VERIFY_EVENTS = 1000
_EMPTY = Head()


class StoreLog:
    """A `Log` over a `Store` and its `Reads`. Engines derive from it only to say how it is opened."""

    def __init__(
        self,
        store: Store,
        reads: Reads,
        loaded: Loaded,
        *,
        vault: Vault,
        ambient: Ambient,
        build: str,
        writer: Executor,
        readers: Executor,
        owned: tuple[Executor, ...] = (),
    ) -> None:
        self._reads = reads
        self._vault = vault
        self._ambient = ambient
        self._readers = readers
        self._owned = owned
        self._log_id = loaded.log_id
        self._writer = Writer(
            store, reads, loaded, vault=vault, ambient=ambient, build=build, executor=writer
        )
        self._reading = 0
        self._read_done = asyncio.Event()
        self._closing: asyncio.Task[None] | None = None
        self._probed: tuple[float, str | None] | None = None

    @property
    def log_id(self) -> str:
        """See `Log`."""
        return self._log_id

    @property
    def position(self) -> int:
        """See `Log`."""
        return self._writer.place.position

    def head(self, stream: str) -> Head:
        """See `Log`."""
        place = self._writer.place
        if stream == LOG_STREAM:
            return Head(1, place.position)
        return place.heads.get(stream, _EMPTY)

    def streams(self, prefix: str) -> list[str]:
        """See `Log`. Sorted."""
        heads = self._writer.place.heads
        return sorted(name for name, head in heads.items() if head.seq and name.startswith(prefix))

    async def append(self, append: Append) -> Appended | Duplicate:
        """See `Log`.

        Raises:
            ValueError: a stream is named `` or `log`, or a text holds a lone surrogate.
            CommandMismatch, Conflict, TooLarge, Closed, Unavailable: see `Log`.
        """
        return await self._writer.append(append, weigh(append))

    async def read(
        self, stream: str, after: int, *, events_max: int, bytes_max: int = 1 << 20
    ) -> list[StoredEvent]:
        """See `Log`. Nothing above the head is returned, even if the disk holds it already."""
        self._check_open()
        upto = self.head(stream).seq
        after = max(0, after)
        count = min(events_max, upto - after)
        if count < 1:
            return []
        return await self._read(lambda: self._reads.events(stream, after, upto, count, bytes_max))

    def listen(self, listener: Listener) -> Callable[[], None]:
        """See `Log`."""
        return self._writer.listen(listener)

    def take(self, counter: str, count: int = 1) -> int:
        """See `Log`."""
        if count < 1:
            raise ValueError(f"cannot take {count} numbers")
        check_names(counter)
        check_text(counter)
        check_number(count)
        return self._writer.take(counter, count)

    async def command(self, key: CommandKey) -> CommandRecord | None:
        """See `Log`."""
        return await self._read(lambda: self._reads.command(key))

    async def secret(self, owner: str, name: str) -> Secret | None:
        """See `Log`.

        Raises:
            SealBroken: what is stored there was changed or moved.
        """

        def job() -> Secret | None:
            found = self._reads.sealed(owner, name)
            return None if found is None else self._vault.unseal(found[0], owner, name, found[1])

        return await self._read(job)

    async def blob(self, blob_id: str) -> bytes | None:
        """See `Log`.

        Raises:
            Damaged: what is stored there is not what was put.
        """

        def job() -> bytes | None:
            packed = self._reads.blob(blob_id)
            if packed is None:
                return None
            data = unpack(packed)
            if name_of(data) != blob_id:
                raise Damaged(self.position, f"blob {blob_id} is not what was stored")
            return data

        return await self._read(job)

    async def rows(
        self, table: str, part: str, *, before: bytes | None = None, limit: int
    ) -> list[tuple[bytes, bytes]]:
        """See `Log`."""
        return await self._read(lambda: self._reads.rows(table, part, before, limit))

    async def row(self, table: str, part: str, key: bytes) -> bytes | None:
        """See `Log`."""
        return await self._read(lambda: self._reads.row(table, part, key))

    async def keyframe(
        self, stream: str, fold: str, fingerprint: str, *, at: int | None = None
    ) -> Keyframe | None:
        """See `Log`. Never one that is ahead of the stream."""
        head = self.head(stream).seq
        upto = head if at is None else min(at, head)

        def job() -> Keyframe | None:
            frame = self._reads.keyframe(stream, fold, fingerprint, upto)
            if frame is None:
                return None
            return msgspec.structs.replace(frame, state=unpack(frame.state, STATE_BYTES_MAX))

        return await self._read(job)

    async def put_keyframe(self, frame: Keyframe) -> None:
        """See `Log`. The few newest of a stream and fold are kept."""
        check_number(frame.seq)
        check_names(frame.stream, frame.fold, frame.fingerprint)
        check_text(frame.stream, frame.fold, frame.fingerprint)
        if len(frame.state) > STATE_BYTES_MAX:
            return
        state = await self._read(lambda: pack(frame.state))
        packed = PutKeyframe(msgspec.structs.replace(frame, state=state))
        await self._writer.write((packed,), len(state))

    async def save_acks(self, acks: Sequence[Ack]) -> None:
        """See `Log`."""
        for ack in acks:
            check_number(ack.seq)
            check_names(ack.user, ack.client, ack.stream)
            check_text(ack.user, ack.client, ack.stream)
        if acks:
            await self._writer.write(tuple(PutAck(ack) for ack in acks), 64 * len(acks))

    async def acks(self, user: str | None = None) -> list[Ack]:
        """See `Log`."""
        return list(await self._read(lambda: self._reads.acks(user)))

    async def probe(self) -> str | None:
        """See `Log`. Writes at most once a second, or when the last commit contradicts the last finding."""
        now_s = self._ambient.monotonic_s()
        if self._probed is not None and now_s - self._probed[0] < PROBE_EVERY_S:
            found = self._probed[1]
            if (found is None) == (self._writer.failure is None):
                return found
        self._probed = (now_s, self._writer.failure)
        reason: str | None = None
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await self._writer.write((Touch(self._ambient.now_ms()),), 0)
        except TimeoutError:
            reason = f"a write to the log takes longer than {PROBE_TIMEOUT_S:g} s"
        except EventStoreError as error:
            reason = str(error)
        self._probed = (now_s, reason)
        return reason

    async def verify(self, from_position: int = 0) -> int:
        """Walk the hash chain after `from_position` to the head; returns how many events were checked.

        Raises:
            Damaged: with the first position that is not what was written.
        """
        place = self._writer.place
        upto, end = place.position, place.chain
        at, chain, seqs = from_position, GENESIS, dict[str, int]()
        if 0 < from_position <= upto:
            before = await self._read(lambda: self._reads.events(LOG_STREAM, from_position - 1, upto, 1, 1))
            if not before or before[0].position != from_position:
                raise Damaged(from_position, "missing")
            chain = before[0].chain
        while at < upto:
            page = await self._page(at, upto)
            if not page:
                raise Damaged(at + 1, f"missing, the log should go to {upto}")
            chain = check(chain, at, seqs, page)
            at = page[-1].position
        if from_position <= upto and chain != end:
            raise Damaged(upto, "the last event is not the one that was written")
        return max(0, upto - from_position)

    async def close(self) -> None:
        """See `Log`. Being cancelled here does not stop the closing."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close(), name="log close")
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._writer.stop()
        while self._reading:
            self._read_done.clear()
            await self._read_done.wait()
        try:
            await self._writer.close()
        finally:
            for executor in self._owned:
                executor.close()

    async def _page(self, after: int, upto: int) -> list[StoredEvent]:
        return await self._read(lambda: self._reads.events(LOG_STREAM, after, upto, _VERIFY_EVENTS, 4 << 20))

    def _check_open(self) -> None:
        if self._closing is not None:
            raise Closed("the log has been closed")

    async def _read[T](self, job: Callable[[], T]) -> T:
        self._check_open()
        self._reading += 1
        try:
            return await self._readers.run(job)
        finally:
            self._reading -= 1
            self._read_done.set()
