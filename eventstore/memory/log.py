"""The in-memory engine: the whole log in dictionaries, over a `ModelDisk` of group records.

It keeps the same promises as the SQLite engine, crashes included, and opens fast enough for a test or a
simulated world to open it a thousand times. It is not for production.

    record = length (4 bytes) || BLAKE2b-128 of payload || payload (a `Group` in MessagePack)

The first record is a `_Birth`. A last record that is cut short was never acknowledged, so it is dropped.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from hashlib import blake2b
from typing import Self

import msgspec

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.core.ages import AgeNote
from huahuo.eventstore.core.chain import GENESIS, check, merged
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.core.page_joining import joined_of
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
    PutAge,
    PutBlob,
    PutCommand,
    PutCounter,
    PutKey,
    PutKeyframe,
    PutPassed,
    PutRow,
    PutSealed,
    Shred,
    Span,
    Touch,
)
from huahuo.eventstore.core.writer import Writer, WriterOf
from huahuo.eventstore.corruption import Corruption
from huahuo.eventstore.errors import InUse, Unavailable, WrongKey
from huahuo.eventstore.executor import Executor, InlineExecutor
from huahuo.eventstore.limits import KEYFRAME_SPAN
from huahuo.eventstore.memory.model_disk import ModelDisk
from huahuo.eventstore.model import (
    LOG_STREAM,
    Ack,
    Append,
    CommandKey,
    CommandRecord,
    Head,
    Joined,
    Keyframe,
    StoredEvent,
    Tombstone,
    Usage,
)

KEYFRAMES_KEPT = 8
_LENGTH_BYTES = 4
_SUM_BYTES = 16


class _Birth(msgspec.Struct, frozen=True, array_like=True):
    """The first record: the log's id, and a mark of the master key."""

    log_id: str
    mark: bytes


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
        store, loaded = await runner.run(lambda: _open(disk, ambient, vault, log_id))
        return cls(
            store, store, loaded, vault=vault, ambient=ambient, build=build,
            writer=runner, readers=runner, writer_of=writer_of,
        )  # fmt: skip


class _Tables:
    """The state after all records."""

    def __init__(self) -> None:
        self.events: list[StoredEvent] = []
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
        self.age: AgeNote | None = None
        self.shared = b""
        self.passed: tuple[Passed, ...] = ()

    def add(self, group: Group) -> None:
        """Apply one commit."""
        self.events += group.events
        for event in group.events:
            self.streams.setdefault(event.stream, []).append(event)
        for change in group.changes:
            self._apply(change)

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
                self.blobs[name] = (self.blobs.get(name, (0, b""))[0] + 1, packed)
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
            case PutAge(age):
                self.age = age
            case PutPassed(shared, passed):
                self.shared = shared
                self.passed = (*self.passed, *passed)[-PASSED_KEPT:]
            case Touch():
                pass

    def _prune(self, positions: frozenset[int]) -> None:
        gone = [event for event in self.events if event.position in positions]
        stones = [Tombstone(event.position, event.stream, event.seq, event.chain) for event in gone]
        self.pruned = sorted(self.pruned + stones, key=_position)
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


class _MemoryStore:
    """Implements `store.Store` and `store.Reads`."""

    def __init__(self, disk: ModelDisk, ticket: int, birth: _Birth) -> None:
        self._disk = disk
        self._ticket = ticket
        self._birth = birth
        self._tables = _Tables()
        self.corruption = Corruption()

    # -- Store

    def find_commands(self, keys: Sequence[CommandKey], since_ms: int) -> dict[CommandKey, CommandRecord]:
        """See `Lookup`."""
        commands, times = self._tables.commands, self._tables.command_times
        return {key: commands[key] for key in keys if times.get(key, since_ms - 1) >= since_ms}

    def wrapped_keys(self, owners: Sequence[str]) -> dict[str, bytes]:
        """See `Lookup`."""
        keys = self._tables.keys
        return {owner: keys[owner] for owner in owners if owner in keys}

    def has_row(self, table: str, part: str, key: bytes) -> bool:
        """See `Lookup`."""
        return key in self._tables.rows.get((table, part), {})

    def commit(self, group: Group) -> None:
        """See `Store`."""
        try:
            self._disk.write(self._ticket, _framed(msgspec.msgpack.encode(group)))
            self._disk.sync(self._ticket)
        except OSError as error:
            raise Unavailable(error.strerror or "the disk failed") from None
        self._tables.add(group)

    def recover(self) -> Loaded:
        """See `Store`. Cuts off what was never synced, then reads everything again."""
        self._disk.truncate(self._ticket, self._disk.safe_bytes)
        return self.load()

    def load(self) -> Loaded:
        """Read the disk."""
        payloads, good_bytes = _payloads(self._disk.read())
        self._disk.truncate(self._ticket, good_bytes)
        tables = self._tables = _Tables()
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
        return Loaded(
            self._birth.log_id, len(history), chain, heads, dict(tables.counters),
            age=tables.age, shared=tables.shared, passed=tables.passed,
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
        tables = self._tables
        kept, place = (
            (tables.events, _position) if stream == LOG_STREAM else (tables.streams.get(stream, []), _seq)
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
        tables = self._tables
        if stream not in tables.ended:
            return None
        kept = bisect_right(tables.streams[stream], upto, key=_position)
        return Head(tables.firsts.get(stream, 1), tables.streams[stream][kept - 1].seq) if kept else None

    def must_take(self, append: Append, build: str) -> None:
        """See `Lookup`. Memory is not damaged."""

    def ended_streams(self, prefix: str) -> list[str]:
        """See `Reads`."""
        return [name for name in self._tables.ended if name.startswith(prefix)]

    def tombstones(self, after: int, upto: int, limit: int) -> list[Tombstone]:
        """See `Reads`."""
        return [stone for stone in self._tables.pruned if after < stone.position <= upto][:limit]

    def chains(self, after: int, upto: int) -> list[bytes]:
        """See `Reads`."""
        tables = self._tables
        return [one.chain for one in merged(tables.events, tables.pruned) if after < one.position <= upto]

    def links(self, places: Sequence[tuple[str, int]]) -> list[bytes | None]:
        """See `Reads`."""
        pages = [self.events(stream, seq - 1, seq, 1, 0) for stream, seq in places]
        return [page[0].chain if page else None for page in pages]

    def command(self, key: CommandKey) -> CommandRecord | None:
        """See `Reads`."""
        return self._tables.commands.get(key)

    def sealed(self, owner: str, name: str) -> tuple[bytes, bytes] | None:
        """See `Reads`."""
        box = self._tables.sealed.get(owner, {}).get(name)
        return None if box is None else (self._tables.keys[owner], box)

    def blob(self, blob_id: str) -> bytes | None:
        """See `Reads`."""
        kept = self._tables.blobs.get(blob_id)
        return None if kept is None else kept[1]

    def rows(
        self, table: str, part: str, before: bytes | None, after: bytes | None, limit: int
    ) -> list[tuple[bytes, bytes]]:
        """See `Reads`."""
        rows = self._tables.rows.get((table, part), {})
        keys = sorted(rows)
        if after is not None:
            first = bisect_right(keys, after)
            return [(key, rows[key]) for key in keys[first : first + limit]]
        end = len(keys) if before is None else bisect_left(keys, before)
        return [(key, rows[key]) for key in reversed(keys[max(0, end - limit) : end])]

    def row(self, table: str, part: str, key: bytes) -> bytes | None:
        """See `Reads`."""
        return self._tables.rows.get((table, part), {}).get(key)

    def keyframe(self, stream: str, fold: str, fingerprint: str, at: int) -> Keyframe | None:
        """See `Reads`."""
        frames = self._tables.frames.get((stream, fold), [])
        upto = bisect_right(frames, at, key=lambda frame: frame.seq)
        fitting = [frame for frame in frames[:upto] if frame.fingerprint == fingerprint]
        return fitting[-1] if fitting else None

    def counted(self) -> int:
        """See `Reads`."""
        return 1 << 62

    def usage(self) -> tuple[int, list[Usage]]:
        """See `Reads`. Nothing here takes room on a disk."""
        return 1 << 62, []

    def acks(self, user: str | None) -> list[Ack]:
        """See `Reads`."""
        kept = sorted(self._tables.acks.items())
        return [Ack(*key, seq) for key, seq in kept if user is None or key[0] == user]


def _position(one: StoredEvent | Tombstone) -> int:
    return one.position


def _seq(event: StoredEvent) -> int:
    return event.seq


def _open(disk: ModelDisk, ambient: Ambient, vault: Vault, log_id: str) -> tuple[_MemoryStore, Loaded]:
    try:
        ticket = disk.hold()
    except BlockingIOError:
        raise InUse("the disk is in use by another log: only one writes") from None
    try:
        payloads, _ = _payloads(disk.read())
        if payloads:
            birth = msgspec.msgpack.decode(payloads[0], type=_Birth)
        else:
            birth = _Birth(log_id or ambient.token(), vault.mark())
            disk.truncate(ticket, 0)
            disk.write(ticket, _framed(msgspec.msgpack.encode(birth)))
            disk.sync(ticket)
        if not vault.knows(birth.mark):
            raise WrongKey("the log was made with another master key")  # noqa: TRY301  the disk is let go
        store = _MemoryStore(disk, ticket, birth)
        return store, store.load()
    except BaseException:
        disk.release(ticket)
        raise


def _framed(payload: bytes) -> bytes:
    return len(payload).to_bytes(_LENGTH_BYTES) + _sum(payload) + payload


def _payloads(data: bytes) -> tuple[list[bytes], int]:
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
