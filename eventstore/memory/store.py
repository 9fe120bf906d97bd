"""The store of the in-memory engine: tables in memory, written ahead to a `ModelDisk`.

The first record on the disk is a `_Birth`.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import msgspec

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.core.chain import GENESIS, check, merged
from huahuo.eventstore.core.changes import Group
from huahuo.eventstore.core.page_joining import joined_of
from huahuo.eventstore.core.place import Loaded
from huahuo.eventstore.core.seal import Vault
from huahuo.eventstore.core.storage_port import Span
from huahuo.eventstore.corruption import Corruption
from huahuo.eventstore.errors import InUse, Unavailable, WrongKey
from huahuo.eventstore.memory.model_disk import ModelDisk
from huahuo.eventstore.memory.records import framed, payloads_of
from huahuo.eventstore.memory.tables import Tables, position
from huahuo.eventstore.model import (
    LOG_STREAM,
    Ack,
    CommandKey,
    CommandRecord,
    Head,
    Joined,
    Keyframe,
    StoredEvent,
    Tombstone,
    Usage,
)


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
        tables = self.tables
        kept, place = (
            (tables.events, position) if stream == LOG_STREAM else (tables.streams.get(stream, []), _seq)
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
        kept = bisect_right(tables.streams[stream], upto, key=position)
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
