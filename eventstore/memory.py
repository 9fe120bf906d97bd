"""The in-memory engine.

The whole log in dictionaries, over a model of a disk that can lose what was not synced.

It keeps the same promises as the SQLite engine, crashes included, and opens fast enough for a test or a
simulated world to open it a thousand times. It is not for production.

The disk holds one append-only file of records, written ahead of the tables; the first is a `_Birth`:

    record = length (4 bytes) || BLAKE2b-128 of payload || payload (a `Group` in MessagePack)

A last record that is cut short was never acknowledged, so it is dropped. Writes wait in a queue until
`sync`. A crash keeps a random prefix of the queue and tears the write after it. A failed sync is as bad as
on real systems: the waiting writes can still be read, but no later sync makes them safe.
"""

import errno
import os
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from hashlib import blake2b
from typing import Protocol, Self

import msgspec

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.core.chain import GENESIS, check, merged
from huahuo.eventstore.core.command_records import AGE_KEY, AgeNote
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.core.row_changes import HORIZONS
from huahuo.eventstore.core.seal import Vault
from huahuo.eventstore.core.storage_port import (
    PASSED_KEPT,
    Change,
    DropBlob,
    DropRow,
    DropSealed,
    EndStream,
    ForgetUser,
    Group,
    Loaded,
    Passed,
    Prune,
    PutAcks,
    PutBlob,
    PutCommand,
    PutCounter,
    PutKey,
    PutKeyframe,
    PutMeta,
    PutPassed,
    PutRow,
    PutSealed,
    Shred,
    Span,
)
from huahuo.eventstore.core.writer import Writer, WriterOf
from huahuo.eventstore.corruption import Corruption
from huahuo.eventstore.errors import InUse, Unavailable, WrongKey
from huahuo.eventstore.executor import Executor, InlineExecutor
from huahuo.eventstore.limits import KEYFRAME_SPAN, KEYFRAMES_KEPT
from huahuo.eventstore.model import (
    LOG_STREAM,
    Ack,
    CommandKey,
    CommandRecord,
    Head,
    Joined,
    Keyframe,
    RowRange,
    RowsAtOnce,
    StoredEvent,
    Tombstone,
    Usage,
    joined_of,
)


class Tables:
    """The state after all records."""

    def __init__(self) -> None:
        self.events: list[StoredEvent] = []
        self.types: set[str] = set()
        self.streams: dict[str, list[StoredEvent]] = {}
        self.firsts: dict[str, int] = {}
        self.ended: set[str] = set()
        self.pruned: list[Tombstone] = []
        self.commands: dict[CommandKey, CommandRecord] = {}
        self.command_times: dict[CommandKey, int] = {}
        self.counters: dict[str, int] = {}
        self.keys: dict[str, bytes] = {}
        self.sealed: dict[str, dict[str, bytes]] = {}
        self.blobs: dict[str, tuple[int, bytes]] = {}
        self.rows: dict[tuple[str, str], dict[bytes, bytes]] = {}
        self.frames: dict[tuple[str, str], list[Keyframe]] = {}
        self.acks: dict[tuple[str, str, str], int] = {}
        self.meta: dict[str, bytes] = {}
        self.shared = b""
        self.passed: tuple[Passed, ...] = ()

    def add(self, group: Group) -> None:
        """Apply one commit."""
        self.events += group.events
        self.types.update(event.type for event in group.events)
        for event in group.events:
            self.streams.setdefault(event.stream, []).append(event)
        for change in group.changes:
            self._apply(change)

    def rows_in(self, asked: RowRange) -> list[tuple[bytes, bytes]]:
        """The rows of a range."""
        rows = self.rows.get((asked.table, asked.part), {})
        keys = sorted(key for key in rows if key >= asked.low and (asked.high is None or key <= asked.high))
        if asked.descending:
            keys.reverse()
        return [(key, rows[key]) for key in keys[: asked.limit]]

    def horizons(self) -> dict[str, int]:
        """See `Loaded`."""
        return {key.decode(): int(value) for key, value in self.rows.get((HORIZONS, ""), {}).items()}

    def _apply(self, change: Change) -> None:
        match change:
            case PutRow(row):
                self.rows.setdefault((row.table, row.part), {})[row.key] = row.value
            case DropRow(drop) if drop.key is None:
                self.rows.pop((drop.table, drop.part), None)
            case DropRow(drop):
                assert drop.key is not None
                self.rows.get((drop.table, drop.part), {}).pop(drop.key, None)
            case PutBlob(id=name, packed=packed):
                refs, kept = self.blobs.get(name, (0, packed))
                self.blobs[name] = (refs + 1, kept)
            case DropBlob(id=name):
                refs, packed = self.blobs.pop(name, (0, b""))
                if refs > 1:
                    self.blobs[name] = (refs - 1, packed)
            case PutKey(owner, wrapped):
                self.keys[owner] = wrapped
            case PutSealed(owner, name, box):
                self.sealed.setdefault(owner, {})[name] = box
            case DropSealed(owner, name):
                self.sealed.get(owner, {}).pop(name, None)
            case Shred(owner):
                self.keys.pop(owner, None)
                self.sealed.pop(owner, None)
            case Prune(positions, firsts):
                self._prune(frozenset(positions))
                self.firsts.update(firsts)
            case EndStream(stream):
                if stream in self.streams:
                    self.ended.add(stream)
            case ForgetUser(user, streams):
                self.commands = {k: v for k, v in self.commands.items() if k.user != user}
                self.acks = {k: v for k, v in self.acks.items() if k[0] != user}
                self.frames = {k: v for k, v in self.frames.items() if k[0] not in streams}
            case PutCounter(counter, following):
                self.counters[counter] = max(following, self.counters.get(counter, 1))
            case PutCommand(record, at_ms):
                self.commands[record.key] = record
                self.command_times[record.key] = at_ms
            case PutAcks(acks):
                for ack in acks:
                    key = (ack.user, ack.client, ack.stream)
                    self.acks[key] = max(ack.seq, self.acks.get(key, 0))
            case PutKeyframe(frame):
                self._keep(frame)
            case PutMeta(key, value):
                self.meta[key] = value
            case PutPassed(shared, passed):
                self.shared = shared
                self.passed = (*self.passed, *passed)[-PASSED_KEPT:]

    def _prune(self, positions: frozenset[int]) -> None:
        gone = [event for event in self.events if event.position in positions]
        stones = [Tombstone(event.position, event.stream, event.seq, event.chain) for event in gone]
        self.pruned = sorted(self.pruned + stones, key=position_of)
        self.events = [event for event in self.events if event.position not in positions]
        for stream in {event.stream for event in gone}:
            kept = self.streams[stream]
            self.streams[stream] = [event for event in kept if event.position not in positions]

    def _keep(self, frame: Keyframe) -> None:
        place = (frame.stream, frame.fold)
        frames = {f.seq: f for f in self.frames.get(place, ()) if f.fingerprint == frame.fingerprint}
        frames[frame.seq] = frame
        seqs = sorted(frames)
        first_of_span = {seq // KEYFRAME_SPAN: seq for seq in reversed(seqs) if seq >= KEYFRAME_SPAN}
        kept = {*seqs[-KEYFRAMES_KEPT:], *first_of_span.values()}
        self.frames[place] = [frames[seq] for seq in seqs if seq in kept]


def position_of(one: StoredEvent | Tombstone) -> int:
    """The order of the log."""
    return one.position


_LENGTH_BYTES = 4
_SUM_BYTES = 16


def framed(payload: bytes) -> bytes:
    """A record."""
    return len(payload).to_bytes(_LENGTH_BYTES) + _sum(payload) + payload


def payloads_of(data: bytes) -> tuple[list[bytes], int]:
    """The whole records at the start of `data`, and where they end."""
    payloads: list[bytes] = []
    at = 0
    while True:
        start = at + _LENGTH_BYTES + _SUM_BYTES
        payload = data[start : start + int.from_bytes(data[at : at + _LENGTH_BYTES])]
        if start > len(data) or _sum(payload) != data[at + _LENGTH_BYTES : start]:
            return payloads, at
        payloads.append(payload)
        at = start + len(payload)


def _sum(payload: bytes) -> bytes:
    return blake2b(payload, digest_size=_SUM_BYTES).digest()


class Chance(Protocol):
    """A source of random numbers, such as an `Ambient`."""

    def random(self) -> float:
        """A number in [0, 1)."""
        ...


class ModelDisk:
    """One file. `fail_writes` and `fail_syncs` are queues of errno values for the next calls.

    With `cut_in_sync` the power fails in the middle of the next sync: that sync and every later call fail,
    and only `crash` decides which of the waiting writes survive.
    """

    def __init__(self) -> None:
        self.fail_writes: list[int] = []
        self.fail_syncs: list[int] = []
        self.cut_in_sync = False
        self.syncs = 0
        self._safe = bytearray()
        self._waiting: list[bytes] = []
        self._doomed = False
        self._holder = 0
        self._held = False
        self._fenced = False

    def hold(self) -> int:
        """Become the writer; returns the ticket that writes need.

        Raises:
            BlockingIOError: another writer holds the disk and has neither released it nor crashed.
        """
        if self._held:
            raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK))
        self._held = True
        self._holder += 1
        return self._holder

    def release(self, ticket: int) -> None:
        """Stop being the writer."""
        if ticket == self._holder:
            self._held = False

    def fence_off(self) -> None:
        """From now on, what the writer asks for fails."""
        self._fenced = True

    def let_in(self) -> None:
        """The end of `fence_off`."""
        self._fenced = False

    def read(self) -> bytes:
        """All bytes as a process sees them, synced or not."""
        return bytes(self._safe) + b"".join(self._waiting)

    def read_safe(self) -> bytes:
        """The bytes that survive any crash."""
        return bytes(self._safe)

    def write(self, ticket: int, data: bytes) -> None:
        """Put `data` at the end. A write that fails has written half of it.

        Raises:
            OSError: as planned by `fail_writes`, or the ticket is not the holder's.
        """
        self._check(ticket)
        if self.fail_writes:
            self._waiting.append(data[: len(data) // 2])
            code = self.fail_writes.pop(0)
            raise OSError(code, os.strerror(code))
        self._waiting.append(data)

    def sync(self, ticket: int) -> None:
        """Make the waiting writes safe.

        Raises:
            OSError: as planned by `fail_syncs`, or the ticket is not the holder's.
        """
        self._check(ticket)
        self.syncs += 1
        if self.cut_in_sync:
            self.cut_in_sync = self._held = False
            self._check(ticket)
        if self.fail_syncs:
            self._doomed = True
            code = self.fail_syncs.pop(0)
            raise OSError(code, os.strerror(code))
        if not self._doomed:
            self._safe += b"".join(self._waiting)
            self._waiting.clear()

    def truncate(self, ticket: int, size: int) -> None:
        """Cut the file to `size` bytes, which must be safe already, and drop the waiting writes."""
        self._check(ticket)
        assert size <= len(self._safe), "only a tail that was never safe is cut"
        del self._safe[size:]
        self._waiting.clear()
        self._doomed = False

    @property
    def safe_bytes(self) -> int:
        """How many bytes survive any crash."""
        return len(self._safe)

    def crash(self, chance: Chance) -> None:
        """Lose power: a prefix of the waiting writes survives, the next is torn, and the writer is gone."""
        if not self._doomed and self._waiting:
            kept = int(chance.random() * (len(self._waiting) + 1))
            self._safe += b"".join(self._waiting[:kept])
            if kept < len(self._waiting):
                torn = self._waiting[kept]
                self._safe += torn[: int(chance.random() * len(torn))]
        self._waiting.clear()
        self._doomed = False
        self._held = False

    def _check(self, ticket: int) -> None:
        if self._fenced or not self._held or ticket != self._holder:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))


class _Birth(msgspec.Struct, frozen=True, array_like=True):
    """The first record: the log's id, and a mark of the master key."""

    log_id: str
    mark: bytes


class MemoryStore:
    """Implements `Store` and `Reads` of `core/storage_port`."""

    def __init__(self, disk: ModelDisk, ticket: int, birth: _Birth) -> None:
        self._disk = disk
        self._ticket = ticket
        self._birth = birth
        self.tables = Tables()
        self.corruption = Corruption()

    # -- Store

    def find_commands(self, keys: Sequence[CommandKey], since_ms: int) -> dict[CommandKey, CommandRecord]:
        """See `Lookup`."""
        commands, times = self.tables.commands, self.tables.command_times
        return {key: commands[key] for key in keys if times.get(key, since_ms - 1) >= since_ms}

    def wrapped_keys(self, owners: Sequence[str]) -> dict[str, bytes]:
        """See `Lookup`."""
        keys = self.tables.keys
        return {owner: keys[owner] for owner in owners if owner in keys}

    def has_row(self, table: str, part: str, key: bytes) -> bool:
        """See `Lookup`."""
        return key in self.tables.rows.get((table, part), {})

    def commit(self, group: Group) -> None:
        """See `Store`."""
        try:
            self._disk.write(self._ticket, framed(msgspec.msgpack.encode(group)))
            self._disk.sync(self._ticket)
        except OSError as error:
            raise Unavailable(error.strerror or "the disk failed") from None
        self.tables.add(group)

    def recover(self) -> Loaded:
        """See `Store`. Cuts off what was never synced, then reads everything again."""
        self._disk.truncate(self._ticket, self._disk.safe_bytes)
        return self.load()

    def load(self) -> Loaded:
        """Read the disk."""
        payloads, good_bytes = payloads_of(self._disk.read())
        self._disk.truncate(self._ticket, good_bytes)
        tables = self.tables = Tables()
        for payload in payloads[1:]:
            tables.add(msgspec.msgpack.decode(payload, type=Group))
        history = merged(tables.events, tables.pruned)
        chain = check(GENESIS, 0, dict.fromkeys(tables.streams, 0), history)
        firsts = tables.firsts
        heads = {
            name: Head(firsts.get(name, 1), events[-1].seq, events[-1].chain)
            for name, events in tables.streams.items()
            if name not in tables.ended
        }
        noted = tables.meta.get(AGE_KEY)
        age = None if noted is None else msgspec.json.decode(noted, type=AgeNote)
        return Loaded(
            self._birth.log_id, len(history), chain, heads, dict(tables.counters),
            age=age, shared=tables.shared, passed=tables.passed, horizons=tables.horizons(),
        )  # fmt: skip

    def is_indexed(self, _position: int) -> bool:
        """See `Store`."""
        return True

    def care_due(self) -> bool:
        """See `Store`."""
        return False

    def care(self) -> None:
        """See `Store`."""

    def close(self) -> None:
        """See `Store`."""
        self._disk.release(self._ticket)

    # -- Reads

    def events(
        self, stream: str, after: int, upto: int, events_max: int, bytes_max: int
    ) -> list[StoredEvent]:
        """See `Reads`."""
        tables = self.tables
        kept, place = (
            (tables.events, position_of) if stream == LOG_STREAM else (tables.streams.get(stream, []), _seq)
        )
        found: list[StoredEvent] = []
        size = 0
        start = bisect_right(kept, after, key=place)
        for event in kept[start : start + events_max]:
            if place(event) > upto:
                break
            size += len(event.body)
            if found and size > bytes_max:
                break
            found.append(event)
        return found

    def joined(self, spans: Sequence[Span]) -> list[Joined | None]:
        """See `Reads`."""
        return [
            joined_of(((event.seq, event.body) for event in self.events(*span)), span.bytes_max)
            for span in spans
        ]

    def ended_head(self, stream: str, upto: int) -> Head | None:
        """See `Reads`."""
        tables = self.tables
        if stream not in tables.ended:
            return None
        kept = bisect_right(tables.streams[stream], upto, key=position_of)
        return Head(tables.firsts.get(stream, 1), tables.streams[stream][kept - 1].seq) if kept else None

    def ended_streams(self, prefix: str) -> list[str]:
        """See `Reads`."""
        return [name for name in self.tables.ended if name.startswith(prefix)]

    def has_type(self, type_: str) -> bool:
        """See `Reads`."""
        return type_ in self.tables.types

    def tombstones(self, after: int, upto: int, limit: int) -> list[Tombstone]:
        """See `Reads`."""
        return [stone for stone in self.tables.pruned if after < stone.position <= upto][:limit]

    def chains(self, after: int, upto: int) -> list[bytes]:
        """See `Reads`."""
        tables = self.tables
        return [one.chain for one in merged(tables.events, tables.pruned) if after < one.position <= upto]

    def links(self, places: Sequence[tuple[str, int]]) -> list[bytes | None]:
        """See `Reads`."""
        pages = [self.events(stream, seq - 1, seq, 1, 0) for stream, seq in places]
        return [page[0].chain if page else None for page in pages]

    def command(self, key: CommandKey) -> CommandRecord | None:
        """See `Reads`."""
        return self.tables.commands.get(key)

    def sealed(self, owner: str, name: str) -> tuple[bytes, bytes] | None:
        """See `Reads`."""
        box = self.tables.sealed.get(owner, {}).get(name)
        return None if box is None else (self.tables.keys[owner], box)

    def blob(self, blob_id: str) -> bytes | None:
        """See `Reads`."""
        kept = self.tables.blobs.get(blob_id)
        return None if kept is None else kept[1]

    def rows(
        self, table: str, part: str, before: bytes | None, after: bytes | None, limit: int
    ) -> list[tuple[bytes, bytes]]:
        """See `Reads`."""
        rows = self.tables.rows.get((table, part), {})
        keys = sorted(rows)
        if after is not None:
            first = bisect_right(keys, after)
            return [(key, rows[key]) for key in keys[first : first + limit]]
        end = len(keys) if before is None else bisect_left(keys, before)
        return [(key, rows[key]) for key in reversed(keys[max(0, end - limit) : end])]

    def rows_at_once(self, asked: Sequence[RowRange]) -> RowsAtOnce:
        """See `Reads`."""
        tables = self.tables
        position = max((one[-1].position for one in (tables.events, tables.pruned) if one), default=0)
        return RowsAtOnce(position, [tables.rows_in(one) for one in asked])

    def parts(self, table: str, after: str | None, limit: int) -> list[str]:
        """See `Reads`."""
        known = [part for (name, part), rows in self.tables.rows.items() if name == table and rows]
        return sorted(part for part in known if after is None or part > after)[:limit]

    def row(self, table: str, part: str, key: bytes) -> bytes | None:
        """See `Reads`."""
        return self.tables.rows.get((table, part), {}).get(key)

    def keyframe(self, stream: str, fold: str, fingerprint: str, at: int) -> Keyframe | None:
        """See `Reads`."""
        frames = self.tables.frames.get((stream, fold), [])
        upto = bisect_right(frames, at, key=lambda frame: frame.seq)
        fitting = [frame for frame in frames[:upto] if frame.fingerprint == fingerprint]
        return fitting[-1] if fitting else None

    def counted(self) -> int:
        """See `Reads`."""
        return 1 << 62

    def usage(self) -> tuple[int, list[Usage]]:
        """See `Reads`. Nothing here takes room on a disk."""
        return 1 << 62, []

    def acks(self, user: str | None, client: str | None, stream: str | None) -> list[Ack]:
        """See `Reads`."""
        kept, asked = sorted(self.tables.acks.items()), (user, client, stream)
        return [
            Ack(*key, seq)
            for key, seq in kept
            if all(one in (None, part) for one, part in zip(asked, key, strict=True))
        ]


def _seq(event: StoredEvent) -> int:
    return event.seq


def open_store(disk: ModelDisk, ambient: Ambient, vault: Vault, log_id: str) -> tuple[MemoryStore, Loaded]:
    """The store on `disk`, created if the disk is empty. Raises what `MemoryLog.open` does."""
    try:
        ticket = disk.hold()
    except BlockingIOError:
        raise InUse("the disk is in use by another log: only one writes") from None
    try:
        payloads, _ = payloads_of(disk.read())
        if payloads:
            birth = msgspec.msgpack.decode(payloads[0], type=_Birth)
        else:
            birth = _Birth(log_id or ambient.token(), vault.mark())
            disk.truncate(ticket, 0)
            disk.write(ticket, framed(msgspec.msgpack.encode(birth)))
            disk.sync(ticket)
        if not vault.knows(birth.mark):
            raise WrongKey("the log was made with another master key")  # noqa: TRY301  the disk is let go
        store = MemoryStore(disk, ticket, birth)
        return store, store.load()
    except BaseException:
        disk.release(ticket)
        raise


class MemoryLog(StoreLog):
    """A `Log` in memory. A crash takes this object; its disk survives."""

    @classmethod
    async def open(
        cls,
        disk: ModelDisk,
        *,
        ambient: Ambient,
        master_key: bytes,
        build: str,
        executor: Executor | None = None,
        writer_of: WriterOf = Writer,
        log_id: str = "",
    ) -> Self:
        """Open the log on `disk`, and create it if the disk is empty. The caller closes its own `executor`.

        `log_id`: of a log that is created ("": one by chance).

        Raises:
            InUse: it is open already. WrongKey: it was made with another master key.
            Damaged: its history is not what was written.
        """
        vault = Vault(master_key, ambient)
        runner = executor or InlineExecutor()
        store, loaded = await runner.run(lambda: open_store(disk, ambient, vault, log_id))
        return cls(
            store, store, loaded, vault=vault, ambient=ambient, build=build,
            writer=runner, readers=runner, writer_of=writer_of,
        )  # fmt: skip
