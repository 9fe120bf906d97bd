"""The log over any engine: implements the port. The writer makes changes, jobs of an executor read."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.core.draft import check_text
from huahuo.eventstore.core.reader import STATE_BYTES_MAX, LogReader
from huahuo.eventstore.core.seal import Vault, pack
from huahuo.eventstore.core.storage_port import (
    Change,
    CountUsage,
    ForgetUser,
    IndexMore,
    Loaded,
    PutAcks,
    PutKeyframe,
    PutMeta,
    Reads,
    Store,
)
from huahuo.eventstore.core.writer import Writer, WriterOf
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.executor import Charge, Executor, FairExecutor, give_way
from huahuo.eventstore.limits import check_names, check_number, weigh
from huahuo.eventstore.model import Ack, Append, Appended, Duplicate, Head, Keyframe, Secret
from huahuo.eventstore.port import Hearer, Listener, RowListener

PROBE_EVERY_S = 1.0
PROBE_TIMEOUT_S = 5.0
_INDEXED_AT_ONCE = 1024
_TOUCHED_KEY = "touched"
"""A probe writes its time there."""
_PREPARED_MIN = 64
"""An append with at least this many secrets has them sealed before it is queued."""


class StoreLog(LogReader):
    """A `Log` over a `Store` and its `Reads`. An engine derives from it only to define how it is opened."""

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
        writer_of: WriterOf = Writer,
    ) -> None:
        super().__init__(loaded.log_id, reads, readers, lambda: self.writer.place)
        self._vault = vault
        self._ambient = ambient
        self._owned = owned
        self.store = store
        self.writer = writer_of(
            store, reads, loaded, vault=vault, ambient=ambient, build=build, executor=writer
        )
        self._closing: asyncio.Task[None] | None = None
        self._probed: tuple[float, str | None] | None = None
        self.pruning = asyncio.Lock()
        """Held while events are chosen and pruned, so that no event is pruned twice."""

    def head(self, stream: str) -> Head:
        """See `Log`. Asked for several times for each client that comes back, so without further calls."""
        place = self.writer.place
        if stream in place.heads:
            return place.heads[stream]
        return place.look(stream) or super().head(stream)

    async def append(self, append: Append) -> Appended | Duplicate:
        """See `Log`.

        Raises:
            ValueError: a stream is named `` or `log`, or a text holds a lone surrogate.
            CommandMismatch, Conflict, TooLarge, QueueFull, Closed, Unavailable: see `Log`.
        """
        size = weigh(append)
        if len(append.secrets) < _PREPARED_MIN:
            return await self.writer.append(append, size)
        # Sealing is half of the cost of an import. Done here, it does not occupy the writer.
        prepared = await self._read(lambda: self._vault.prepare(append.secrets, give_way))
        return await self.writer.append(append, size, prepared)

    def submit(
        self, append: Append, *, events_bytes: int | None = None
    ) -> asyncio.Future[Appended | Duplicate]:
        """See `Log`. Raises at once what `append` raises before it waits."""
        return self.writer.append(append, weigh(append, events_bytes))

    def submit_for(
        self, hearer: Hearer, about: Any, append: Append, *, events_bytes: int | None = None
    ) -> None:
        """See `Log`."""
        self.writer.append_for(hearer, about, append, weigh(append, events_bytes))

    @property
    def incarnation(self) -> str:
        """See `Log`."""
        return self.writer.incarnation

    def living(self) -> frozenset[str]:
        """See `Log`."""
        return self.writer.living()

    def listen(self, listener: Listener) -> Callable[[], None]:
        """See `Log`."""
        return self.writer.listen(listener)

    def listen_to_rows(self, listener: RowListener) -> Callable[[], None]:
        """See `Log`."""
        return self.writer.listen_to_rows(listener)

    def bill(self, charge: Charge) -> None:
        """From now on, report to `charge` the cost of each principal's appends and of each user's reads."""
        self.writer.charge = charge
        if isinstance(self.readers, FairExecutor):
            self.readers.bill(charge, self._ambient.thread_s)

    @property
    def streams_in_memory(self) -> int:
        """Streams whose heads are in memory: all but those that ended."""
        return self.writer.place.count

    def take(self, counter: str, count: int = 1) -> int:
        """See `Log`."""
        if count < 1:
            raise ValueError(f"cannot take {count} numbers")
        check_names(counter)
        check_text(counter)
        check_number(count)
        return self.writer.take(counter, count)

    async def reserve(self, counter: str, count: int = 1) -> None:
        """See `Log`."""
        await self.writer.reserve(counter, count)

    async def secret(self, owner: str, name: str) -> Secret | None:
        """See `Log`.

        Raises:
            SealBroken: the stored secret was changed or moved.
        """
        return await self._read(partial(self._unsealed, owner, name))

    async def secrets(self, owner: str, names: Sequence[str]) -> list[Secret | None]:
        """See `Log`. Raises as `secret`."""
        return await self._read(lambda: [self._unsealed(owner, name) for name in names])

    def _unsealed(self, owner: str, name: str) -> Secret | None:
        found = self._reads.sealed(owner, name)
        if found is None:
            self.corruption.must_not_hide("sealed")
            self.corruption.must_not_hide("data_key")
            return None
        return self._vault.unseal(found[0], owner, name, found[1])

    async def count_usage(self, upto: int) -> bool:
        """Count the bytes of the next events for their users. False: those up to `upto` are counted."""
        if await self._read(self._reads.counted) >= upto:
            return False
        await self._write((CountUsage(),), 0)
        return True

    async def forget_user(self, user: str, streams: Sequence[str]) -> None:
        """Remove a user's command records and acks, and the keyframes of `streams`."""
        check_names(user, *streams)
        check_text(user, *streams)
        await self._write((ForgetUser(user, tuple(streams)),), 0)

    async def index_to(self, position: int) -> None:
        """Bring an index that runs behind up to `position`, in steps of a few milliseconds of the writer."""
        while not self.store.is_indexed(min(position, self.position)):
            await self._write((IndexMore(_INDEXED_AT_ONCE),), 0)

    async def put_keyframe(self, frame: Keyframe) -> None:
        """See `Log`. A stream and fold keep the few newest keyframes, and one for each older span."""
        check_number(frame.seq)
        check_names(frame.stream, frame.fold, frame.fingerprint)
        check_text(frame.stream, frame.fold, frame.fingerprint)
        if len(frame.state) > STATE_BYTES_MAX:
            return
        state = await self._read(lambda: pack(frame.state))
        packed = PutKeyframe(msgspec.structs.replace(frame, state=state))
        await self._write((packed,), len(state))

    async def save_acks(self, acks: Sequence[Ack]) -> None:
        """See `Log`."""
        if not acks:
            return
        seqs = [ack.seq for ack in acks]
        names = [name for ack in acks for name in (ack.user, ack.client, ack.stream)]
        check_number(min(seqs))
        check_number(max(seqs))
        check_names(*names)
        check_text(*names)
        await self._write((PutAcks(tuple(acks)),), 64 * len(acks))

    async def probe(self) -> str | None:
        """See `Log`. Writes at most once a second, unless the last commit contradicts the last result.

        After a failed commit it writes more than that commit did: on a full disk a small write may still fit.
        """
        now_s = self._ambient.monotonic_s()
        if self._probed is not None and now_s - self._probed[0] < PROBE_EVERY_S:
            found = self._probed[1]
            if (found is None) == (self.writer.failure is None):
                return found or self.writer.trouble or self.corruption.sentence()
        self._probed = (now_s, self.writer.failure)
        reason: str | None = None
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                pad_bytes = self.writer.failed_bytes
                padded = str(self._ambient.now_ms()).encode().ljust(pad_bytes)
                await self._write((PutMeta(_TOUCHED_KEY, padded),), pad_bytes)
        except TimeoutError:
            reason = f"a write to the log takes longer than {PROBE_TIMEOUT_S:g} s"
        except EventStoreError as error:
            reason = str(error)
        reason = reason or self.writer.trouble or self.corruption.sentence()
        self._probed = (now_s, reason)
        return reason

    async def _write(self, changes: tuple[Change, ...], size: int) -> None:
        """Commit `changes` without an append."""
        await self.writer.write(changes, size)

    async def close(self) -> None:
        """See `Log`. Being cancelled here does not stop the closing."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close(), name="log close")
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self.writer.stop()
        await self._stop_reading()
        try:
            await self.writer.close()
        finally:
            for executor in self._owned:
                executor.close()
